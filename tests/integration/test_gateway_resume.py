"""Promise P7: after any disconnect the client ends with exactly the final answer, wherever it comes back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from tests.support.gateway_house import Client, House, Json, Served, house

__all__ = ["house"]
TERMINAL = {"completed", "failed", "cancelled"}
SEED = 20_261
TURNS = 25


@dataclass
class Shown:
    """What a plain client shows of one turn, by the words of the docs and nothing else."""

    session: str
    turn: str
    text: str = ""
    at: tuple[int, int] | None = None
    ends: int = 0

    def take(self, frame: Json) -> None:
        if frame.get("turn") != self.turn or "seq" not in frame:
            return
        position = (frame["attempt"], frame["seq"])
        assert self.at is None or position > self.at or frame["type"] == "accepted", "a frame came twice, or late"
        self.at = max(position, self.at or position)
        if frame["type"] == "delta":
            self.text += frame["text"]
        elif frame["type"] in {"reset", *TERMINAL}:
            self.text = frame["text"]
        self.ends += frame["type"] in TERMINAL

    def recovered(self, frame: Json) -> str:
        item: Json = frame["turns"][0]
        if frame["verdict"] != "full":
            self.text = item["text"]
            self.at = (item["attempt"], item["seq"])
        return str(item["state"])


async def come_back(client: Client, shown: Shown, frame: Json) -> None:
    """Attach; where the turn is not known (yet), send it again: its id is safe."""
    asked: dict[str, Any] = {"type": "attach", "session": shown.session, "turn": shown.turn}
    if shown.at is not None:
        asked["after"] = {"turn": shown.turn, "attempt": shown.at[0], "seq": shown.at[1]}
    answer = await client.ask(**asked)
    if answer["type"] == "error" or shown.recovered(answer) == "unseen":
        await client.say(**frame)


async def one_turn(gateways: list[Served], house: House, dice: random.Random, number: int) -> tuple[Shown, int]:
    """One turn through as many connections as the dice say; what is shown at its end, and how often it was cut."""
    pieces = [dice.choice(["a", "bb", "ccc "]) + str(n) for n in range(dice.randint(1, 12))]
    shown = Shown(f"s{number % 7}", f"t{number}")
    script = dice.choice(["say ", "hold "]) + "|".join(pieces)
    frame = {"type": "turn", "session": shown.session, "turn": shown.turn, "text": script}
    cuts, first = 0, True
    while shown.ends == 0:
        patience = dice.randint(0, 4) if cuts < 6 else 1_000
        async with dice.choice(gateways).socket() as client:
            if first:
                await client.say(**frame)
            else:
                await come_back(client, shown, frame)
            first = False
            while patience and shown.ends == 0:
                house.worker.go(shown.session, shown.turn, dice.randint(0, 3) if cuts < 6 else 20)
                try:
                    shown.take(await client.next(0.3))
                except TimeoutError:
                    continue
                patience -= 1
            if shown.ends == 0:
                client.connection.transport.abort()
                cuts += 1
    assert shown.text == "".join(pieces)
    return shown, cuts


async def test_wherever_it_is_cut_a_client_ends_with_the_answer_and_one_end(house: House) -> None:
    dice = random.Random(SEED)
    gateways = [await house.gateway(partition=0), await house.gateway(partition=1)]
    cuts = 0
    for number in range(TURNS):
        async with asyncio.timeout(20):
            shown, cut = await one_turn(gateways, house, dice, number)
        cuts += cut
        async with gateways[0].http() as http:
            stored = (await http.get(f"/v1/sessions/{shown.session}/turns/{shown.turn}")).json()
        assert stored["result"]["text"] == shown.text
        assert shown.ends == 1

    assert house.worker.ran == [f"t{number}" for number in range(TURNS)], "each turn ran once"
    assert cuts >= TURNS, f"only {cuts} cuts: nothing was tried"
