from math import exp


def perplexity(texts):
    logprobs = [logprob for text in texts for logprob in text]
    return exp(-sum(logprobs) / len(logprobs))
