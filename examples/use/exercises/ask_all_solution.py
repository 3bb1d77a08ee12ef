from concurrent.futures import ThreadPoolExecutor


def ask_all(ask, questions):
    with ThreadPoolExecutor(len(questions)) as pool:
        futures = [pool.submit(ask, question) for question in questions]
        return [future.exception() or future.result() for future in futures]
