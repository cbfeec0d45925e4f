"""A member whose generation is too old joins again as itself; one that is unknown as somebody else."""

from __future__ import annotations

from types import SimpleNamespace

from broker.kafka_identity import keep_member_id


class JoinGroupRequest:
    """Its name is what counts."""


class Coordinator:
    """What aiokafka's coordinator does at a reset, and a broker that answers a join with `error_code`."""

    def __init__(self) -> None:
        self.generation, self.member_id, self.rejoins, self.error_code = 7, "me", 0, 0

    def reset_generation(self) -> None:
        self.generation, self.member_id = -1, ""
        self.request_rejoin()

    def request_rejoin(self) -> None:
        self.rejoins += 1

    async def _send_req(self, request: object) -> SimpleNamespace:
        return SimpleNamespace(error_code=self.error_code)


def kept() -> Coordinator:
    coordinator = Coordinator()
    keep_member_id(SimpleNamespace(_coordinator=coordinator))
    return coordinator


def test_the_id_survives_a_commit_that_names_many_partitions() -> None:
    coordinator = kept()
    for _ in range(3):
        coordinator.reset_generation()
    assert (coordinator.generation, coordinator.member_id, coordinator.rejoins) == (-1, "me", 3)


async def test_the_id_is_forgotten_once_a_join_says_that_nobody_knows_it() -> None:
    coordinator = kept()
    coordinator.reset_generation()
    coordinator.error_code = 25
    await coordinator._send_req(JoinGroupRequest())
    coordinator.reset_generation()
    assert coordinator.member_id == ""


async def test_other_answers_do_not_count() -> None:
    coordinator = kept()
    coordinator.error_code = 25
    await coordinator._send_req(object())
    coordinator.reset_generation()
    assert coordinator.member_id == "me"
