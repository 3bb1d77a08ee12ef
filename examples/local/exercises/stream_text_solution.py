def stream_text(tokenizer, ids):
    shown = ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        if text.endswith("\N{REPLACEMENT CHARACTER}") or text == shown:
            continue
        yield text[len(shown) :]
        shown = text
