"""Chromium on the chat page of a gateway that runs, with whole workers on the twins behind it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.gateway_house import House
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentSpec

PATIENCE_S = 10.0


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    """One browser for all tests; each opens a session of its own."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] is None or found[1] is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in ("--headless=new", "--no-proxy-server", "--disable-dev-shm-usage", "--window-size=1000,900"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium has no sandbox for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    try:
        yield driver
    finally:
        driver.quit()


def console(driver: webdriver.Chrome) -> list[dict[str, Any]]:
    """What the browser complained of since it was last asked."""
    lines: list[dict[str, Any]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return lines


class Page:
    """The chat page as a person has it. The driver blocks: it is called in a thread, the gateway shares our loop."""

    def __init__(self, driver: webdriver.Chrome, fleet: MemoryFleet, house: House) -> None:
        self.driver, self.fleet, self.house = driver, fleet, house

    async def open(self, session: str) -> None:
        """The page at this session, connected."""
        served = await self.house.gateway()
        await asyncio.to_thread(self.driver.get, f"{served.url}/#{session}")
        await self.see("#state", "connected as")

    async def say(self, text: str) -> None:
        """Send a message as the form does."""
        await self.type("#text", text)
        await self.click("button.send")

    async def click(self, selector: str) -> None:
        await asyncio.to_thread(lambda: self._one(selector).click())

    async def type(self, selector: str, text: str) -> None:
        """Put `text` in place of what the field holds."""

        def typed() -> None:
            field = self._one(selector)
            field.clear()
            field.send_keys(text)

        await asyncio.to_thread(typed)

    async def see(self, selector: str, text: str) -> None:
        """Wait until the element is there and holds `text`."""
        await self.until(lambda: text in self._one(selector).text)

    async def gone(self, selector: str) -> None:
        """Wait until no such element is left."""
        await self.until(lambda: not self.driver.find_elements(By.CSS_SELECTOR, selector))

    async def script(self, script: str) -> Any:
        """What this script returns."""
        return await asyncio.to_thread(self.driver.execute_script, script)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the page is so. AssertionError with what it shows when it is not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        while not await asyncio.to_thread(self._holds, condition):
            shown = await asyncio.to_thread(lambda: self._one("body").text)
            assert loop.time() < end, f"not in time; the page shows: {shown}; console: {console(self.driver)}"
            await asyncio.sleep(0.02)

    def _holds(self, condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except (NoSuchElementException, StaleElementReferenceException):
            return False

    def _one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)


Pages = Callable[[AgentSpec], Any]


@pytest.fixture
def pages(chromium: webdriver.Chrome) -> Pages:
    """`async with pages(agent) as page`: a gateway and a worker that has this agent; the console stays clean."""

    @asynccontextmanager
    async def served(spec: AgentSpec) -> AsyncIterator[Page]:
        async with MemoryFleet(spec, default=spec.name) as fleet:
            await fleet.worker()
            house = House(fleet.cluster, fleet.store)
            try:
                yield Page(chromium, fleet, house)
                # A session that is new has no history (404), and a lost connection is one: that is the network's.
                assert not [line for line in console(chromium) if line["source"] != "network"]
            finally:
                await asyncio.to_thread(chromium.get, "about:blank")
                await house.stop()

    return served
