def cut_answer(output, prompt_length, eos_token_ids):
    answer = []
    for token in output[prompt_length:]:
        if token in eos_token_ids:
            break
        answer.append(token)
    return answer
