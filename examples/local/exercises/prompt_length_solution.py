def prompt_length(tokenizer, messages):
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    )
    return len(inputs.input_ids)
