"""32 个客户端同时问：每个回答都与单独问时一样，服务不漏内存也不倒。"""

import json

import pytest

from tests.harness import services
from tests.load.serve_load import BATCHING, KINDS, SERVE, load, memory, post, request

pytestmark = pytest.mark.full
CLIENTS, REQUESTS, LENGTHS = 32, 64, (5, 20)
GROWTH = 100  # MB；起来之后第一次用会多占几十 MB，再往上就是漏了


def assert_right(report):
    assert report.wrong == []
    assert set(report.counts) == set(KINDS) and report.counts.total() == REQUESTS


def test_thirty_two_clients_at_once():
    """长短不一，流式与不流式混着，有的中途挂断，有的请求是坏的。"""
    service = services.start(SERVE)
    before = memory(service.process)
    report, _ = load(service, CLIENTS, REQUESTS, lengths=LENGTHS, every=REQUESTS)
    assert_right(report)
    assert memory(service.process) - before < GROWTH


@pytest.fixture(scope="module")
def batching():
    return services.start(BATCHING)


def test_thirty_two_clients_in_one_batch(batching):
    """连续批处理：挤在一起算，回答也一字不差。"""
    report, expected = load(batching, CLIENTS, REQUESTS, lengths=LENGTHS)
    assert_right(report)
    assert len({text for text, *_ in expected.values()}) > len(expected) / 2


def test_first_request_decides_the_temperature(batching):
    """先用温度 0 问过它，之后写多高的温度都是贪心；重复惩罚也没有了。"""
    body = request("编码器和解码器谁更好？", 60)
    greedy, *hot = (
        json.load(post(batching.port, body | changes))["choices"][0]["message"]
        for changes in ({}, *({"temperature": 1.5, "seed": seed} for seed in range(3)))
    )
    assert hot == [greedy] * 3
    assert "RepetitionPenaltyLogitsProcessor isn't supported" in batching.printed()
