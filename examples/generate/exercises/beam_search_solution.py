def beam_search(next_logprobs, width, length):
    beams = [([], 0.0)]
    for _ in range(length):
        longer = [
            ([*ids, token], total + logprob)
            for ids, total in beams
            for token, logprob in enumerate(next_logprobs(ids))
        ]
        beams = sorted(longer, key=lambda beam: beam[1], reverse=True)[:width]
    return beams[0]
