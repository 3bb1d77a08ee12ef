def until(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        before, found, _ = held.partition(stop)
        if found:
            if before:
                yield before
            return
        keep = next(n for n in range(len(stop) - 1, -1, -1) if held.endswith(stop[:n]))
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield ready
    if held:
        yield held
