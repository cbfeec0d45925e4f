"""Tasks that OneAgent must solve, each with the transcript of a model that does it as real ones do. Data only."""

from __future__ import annotations

from typing import Any

from fleet.testing import Answer, allows, asks, asks_badly, asks_many, denies, says
from tests.corpus.desk import Case


def plan(*items: str, done: int = 0) -> Answer:
    todos: list[Any] = [{"text": text, "status": "done" if n < done else "pending"} for n, text in enumerate(items)]
    return asks("write_todos", todos=todos)


def _priced(*items: str) -> Case:
    """Plan, look everything up at once, add up, tick off, answer."""
    prices = {"tent": 120, "lamp": 30, "stove": 45, "map": 9, "rope": 25}
    total = sum(prices[item] for item in items)
    steps = ("look up", "add up")
    return Case(
        f"price of {' and '.join(items)}",
        f"What do {', '.join(items)} cost together?",
        [
            plan(*steps),
            asks_many(*(asks("price", item=item) for item in items), text="Looking up."),
            asks("total", numbers=[prices[item] for item in items]),
            plan(*steps, done=2),
            says(f"Together {total} euros."),
        ],
        f"Together {total} euros.",
    )


def _corrected(wrong: str, right: str, euros: int) -> Case:
    """A call that fails, read and corrected."""
    return Case(
        f"{wrong} is no item",
        f"How much is a {wrong}?",
        [asks("price", item=wrong), asks("price", item=right), says(f"A {right} is {euros} euros.")],
        f"A {right} is {euros} euros.",
        errors=1,
    )


def _malformed(city: str, sky: str) -> Case:
    """Arguments that are no JSON, then ones that do not fit, then good ones."""
    return Case(
        f"malformed arguments for {city}",
        f"Weather in {city}?",
        [
            asks_badly("weather", f'{{"city": "{city}'),
            asks("weather", town=city),
            asks("weather", city=city),
            says(f"{sky} in {city}."),
        ],
        f"{sky} in {city}.",
        errors=2,
    )


def _helped(*cities: str) -> Case:
    """Helpers at once, each with a call and a file of its own; then the files are read."""
    prompts = {city: f"Find out the weather of {city} and write it to {city}.txt" for city in cities}
    skies = {"Oslo": "rain", "Rome": "sun", "Bonn": "fog", "Kiel": "storm"}
    helpers = {
        prompt: [
            asks("weather", city=city),
            asks("write", path=f"{city}.txt", content=skies[city]),
            says(f"{city}: {skies[city]}"),
        ]
        for city, prompt in prompts.items()
    }
    answer = "; ".join(f"{city} {skies[city]}" for city in cities)
    return Case(
        f"helpers for {' and '.join(cities)}",
        f"Compare the weather of {', '.join(cities)}.",
        [
            plan("find out", "compare"),
            asks_many(*(asks("task", title=city, prompt=prompts[city]) for city in cities)),
            asks_many(*(asks("read", path=f"{city}.txt") for city in cities)),
            says(answer),
        ],
        answer,
        helpers=helpers,
        files={f"{city}.txt": skies[city] for city in cities},
    )


def _wired(to: str, euros: int, verdict: str) -> Case:
    """What the user must allow: allowed, changed, denied."""
    decisions = {
        "allowed": [allows()],
        "changed": [allows(arguments={"to": to, "euros": euros - 1})],
        "denied": [denies(note="too much")],
    }
    said = {"allowed": "Wired.", "changed": "Wired one euro less, as you said.", "denied": "Not wired: you said no."}
    return Case(
        f"wire to {to} {verdict}",
        f"Wire {euros} to {to}.",
        [asks("document", name="policy"), asks("wire", to=to, euros=euros), says(said[verdict])],
        said[verdict],
        decisions=decisions[verdict],
        wires=0 if verdict == "denied" else 1,
        errors=1 if verdict == "denied" else 0,
    )


def _bought(item: str, euros: int) -> Case:
    """Look, pay once a key, tell somebody once, tick off."""
    return Case(
        f"buy a {item}",
        f"Buy a {item} and tell Bo.",
        [
            plan("price", "pay", "tell"),
            asks("price", item=item),
            asks("pay", euros=euros),
            asks_many(asks("send", to="Bo", text=f"a {item} is bought"), plan("price", "pay", "tell", done=3)),
            says(f"Bought for {euros} euros; Bo knows."),
        ],
        f"Bought for {euros} euros; Bo knows.",
        pays=[euros],
        sends=[f"Bo: a {item} is bought"],
    )


def _drafted(path: str, first: str, then: str) -> Case:
    """A file written, searched, changed, read again."""
    return Case(
        f"draft {path}",
        f"Draft {path}.",
        [
            asks("write", path=path, content=f"# Draft\n{first}\n"),
            asks_many(asks("grep", text=first), asks("ls")),
            asks("edit", path=path, old=first, new=then),
            asks("read", path=path),
            says("The draft is there."),
        ],
        "The draft is there.",
        files={path: f"# Draft\n{then}\n"},
    )


def _wrong_paths(path: str) -> Case:
    """A path outside, an edit that fits nowhere, then a good one."""
    return Case(
        f"path {path}",
        f"Write to {path}.",
        [
            asks_many(asks("write", path=path, content="x"), asks("edit", path="a.txt", old="x", new="y")),
            asks("write", path="a.txt", content="x"),
            says("Written to a.txt instead."),
        ],
        "Written to a.txt instead.",
        errors=2,
        files={"a.txt": "x"},
    )


def _obedient(document: str) -> Case:
    """A document that gives orders, and a model that obeys it: the call needs its user, who says no."""
    return Case(
        f"orders in {document}",
        f"Summarise {document}.",
        [
            asks("document", name=document),
            asks_many(asks("wire", to="mallory", euros=1_000_000), asks("shell", command="cat /etc/passwd")),
            says("I could not do what the document says."),
        ],
        "I could not do what the document says.",
        decisions=[denies()],
        errors=2,
    )


def _nested(start: str, end: str, train: str) -> Case:
    """A helper that looks two things up at once while the main line looks up a third."""
    prompt = f"How do I get from {start} to {end}?"
    return Case(
        f"trip {start} {end}",
        f"Plan a trip from {start} to {end}.",
        [
            asks_many(asks("task", title="trip", prompt=prompt), asks("weather", city=end)),
            asks("send", to="Ada", text=f"trip to {end}"),
            says(f"Train: {train}."),
        ],
        f"Train: {train}.",
        helpers={
            prompt: [
                asks_many(asks("train", start=start, end=end), asks("weather", city=start)),
                says(f"Take the train: {train}"),
            ]
        },
        sends=[f"Ada: trip to {end}"],
    )


def _same_again(city: str) -> Case:
    """The same call over and over: stopped, and answered all the same."""
    return Case(
        f"again {city}",
        f"Keep an eye on {city}.",
        [*(asks("weather", city=city) for _ in range(5)), says("It does not change.")],
        "It does not change.",
        errors=2,
    )


CASES = [
    *(_priced(*items) for items in (("tent", "lamp"), ("stove", "map", "rope"), ("tent", "stove", "lamp", "map"))),
    *(_corrected(*given) for given in (("tend", "tent", 120), ("lamb", "lamp", 30), ("roap", "rope", 25))),
    *(_malformed(*given) for given in (("Oslo", "Rain"), ("Rome", "Sun"), ("Kiel", "Storm"))),
    *(_helped(*cities) for cities in (("Oslo", "Rome"), ("Bonn", "Kiel", "Rome"), ("Oslo", "Bonn", "Kiel", "Rome"))),
    *(_wired("Bo", 80 + n, verdict) for n, verdict in enumerate(("allowed", "changed", "denied"))),
    *(_bought(*given) for given in (("tent", 120), ("map", 9), ("rope", 25))),
    *(_drafted(*given) for given in (("plan.md", "one", "two"), ("docs/a/b.md", "x", "y"), ("n-1_2.txt", "p", "q r"))),
    *(_wrong_paths(path) for path in ("../secret", "/etc/passwd", "a/../../b")),
    *(_obedient(document) for document in ("notes", "policy", "runbook")),
    *(
        _nested(*given)
        for given in (("Bonn", "Kiel", "08:10, 5 h"), ("Oslo", "Rome", "none"), ("Kiel", "Oslo", "14:00, 9 h"))
    ),
    *(_same_again(city) for city in ("Oslo", "Bonn", "Rome")),
]
