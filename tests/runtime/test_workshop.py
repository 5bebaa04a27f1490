import threading
from functools import partial

import pytest

from edge_agent.errors import ModelError
from edge_agent.runtime.workshop import Workshop
from tests.runtime.stations import engine_of, record, wait_for
from tests.runtime.works import Works, picture


class Supply:
    """Has an engine once the test lets it, or never."""

    words = "half of it"

    def __init__(self, path, error=None):
        self._path, self._error = path, error
        self.may_end, self.is_stopped = threading.Event(), threading.Event()
        self.is_held = False

    def build(self):
        assert self.may_end.wait(30)
        if self._error:
            raise self._error
        return self._path and partial(engine_of, self._path)

    def stop(self):
        self.is_stopped.set()
        self.may_end.set()

    def hold(self, *, is_held):
        self.is_held = is_held


class Shop:
    """A pipeline at work, and a workshop for it."""

    def __init__(self, folder, path=None, error=None):
        self.introduced, self.announced = [], threading.Event()
        self.works = Works(record(folder / "serves.npz", []), deadline_ms=20_000)
        self.supply = Supply(path, error)
        self.workshop = Workshop(
            self.supply,
            self.works.pipeline,
            self.works.station.reporter,
            introduce=self.introduced.append,
            announce=self.announced.set,
        )

    def __enter__(self):
        self.works.__enter__()
        self.workshop.start()
        return self

    def __exit__(self, *_):
        self.workshop.ask_to_stop()
        self.works.__exit__()
        assert self.workshop.stop(30)

    def codes(self):
        return [(event["code"], event["severity"]) for event in self.works.station.records_wire.on("/event")]


def test_the_new_engine_takes_over_and_that_is_said(tmp_path):
    with Shop(tmp_path, record(tmp_path / "new.npz", [])) as shop:
        shop.supply.may_end.set()
        assert shop.announced.wait(30)
        wait_for(shop.codes)
        assert shop.codes() == [("engine_replaced", "info")]
        assert shop.introduced == [shop.works.pipeline.engine]


def test_where_there_is_no_better_one_nothing_happens(tmp_path):
    with Shop(tmp_path) as shop:
        shop.supply.may_end.set()
        assert shop.workshop.stop(30)
        assert shop.codes() == []


@pytest.mark.parametrize("error", [ModelError("no such layer"), RuntimeError("oh")], ids=["refused", "unexpected"])
def test_where_it_cannot_be_had_that_is_said_and_the_old_one_goes_on(tmp_path, error):
    with Shop(tmp_path, error=error) as shop:
        before = shop.works.pipeline.engine
        shop.supply.may_end.set()
        wait_for(shop.codes)
        assert shop.codes() == [("engine_build_failed", "warning")]
        shop.works.show(picture())
        shop.works.verdicts(1)
        assert shop.works.pipeline.engine is before


def test_one_that_cannot_be_opened_is_said_too(tmp_path):
    with Shop(tmp_path, tmp_path / "none.npz") as shop:
        shop.supply.may_end.set()
        wait_for(shop.codes)
        assert shop.codes() == [("engine_build_failed", "warning")]


def test_a_stop_ends_the_work_and_is_no_failure(tmp_path):
    with Shop(tmp_path, error=ModelError("stopped")) as shop:
        assert shop.workshop.stop(30)
        assert shop.supply.is_stopped.is_set()
        assert shop.codes() == []


def test_its_words_are_those_of_the_supply(tmp_path):
    with Shop(tmp_path) as shop:
        assert shop.workshop.words == "half of it"


def test_work_stands_still_while_it_is_held(tmp_path):
    with Shop(tmp_path) as shop:
        shop.workshop.hold(is_held=True)
        assert shop.supply.is_held
        shop.workshop.hold(is_held=False)
        assert not shop.supply.is_held
