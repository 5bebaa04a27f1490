"""The engine of a line: what there is when it starts, and TensorRT's own as soon as it has been built."""

import threading
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog

from edge_agent.app.engine import open_first, open_way
from edge_agent.app.engine_build import BuildStoppedError, EngineBuilder, Finished, Progress
from edge_agent.app.engine_choice import (
    TENSORRT,
    Blueprint,
    EngineRequest,
    Way,
    blueprint,
    cannot_run,
    direct_ways,
    may_stand_in,
    stand_ins,
)
from edge_agent.errors import ConfigError, EdgeAgentError, EngineUnfitError, FatalError, ModelError
from edge_agent.hardware import telemetry
from edge_agent.hardware.profile import BESIDE_MB
from edge_agent.models import bare
from edge_agent.runtime.engine import Engine
from edge_agent.runtime.reporter import Reporter
from edge_agent.runtime.succession import OpenEngine

log = structlog.get_logger()
LOG_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """When an engine that is missing is built. `beside_mb` of memory must be free to do it while another one serves."""

    build: Literal["beside", "before", "never"] = "beside"
    beside_mb: float = BESIDE_MB


class EngineSupply:
    """`open` is for the pipeline's thread, `build` for another one later; `stop`, `hold` and `words` for any."""

    def __init__(self, request: EngineRequest, policy: Policy, reporter: Reporter) -> None:
        self._request, self._policy, self._reporter = request, policy, reporter
        self._ordered: tuple[bare.ModelFile, Blueprint] | None = None  # what is to be built beside
        self._lock = threading.Lock()  # of the three below
        self._builder: EngineBuilder | None = None
        self._is_stopped = self._is_held = False
        self._progress: Progress | None = None
        self._logged_s = 0.0
        self._told: ConfigError | None = None

    @property
    def words(self) -> str:
        """How far a build is, for a person; empty while none runs."""
        progress = self._progress
        if progress is None:
            return ""
        share = "" if progress.fraction is None else f" {progress.fraction:.0%}"
        held = ", stands still until the board has cooled" if self._rests else ""
        return f"TensorRT engine: {progress.stage}{share}, {progress.elapsed_s:.0f} s{held}"

    def open(self) -> Engine:
        """The best that there is, or can be had before the line starts.

        Raises:
            ModelError: the model cannot be used as it is, or its engine cannot be built.
            UnavailableError: what it needs is not installed.
        """
        request, file = self._request, bare.identify(self._request.path)
        try:
            plan = blueprint(file, request)
        except ConfigError as error:
            if not may_stand_in(request, error):
                raise
            return self._stand_in(file, cannot_run(error), error)
        if plan is None:
            return open_first(request, file, direct_ways(file, request.backend, request.order), tell=self._tell_unused)
        return self._open_planned(file, plan)

    def build(self) -> OpenEngine | None:
        """Builds the engine that was missing when the line started; how to open it, or None where none was.

        Raises:
            EdgeAgentError: it cannot be built.
        """
        if self._ordered is None:
            return None
        file, plan = self._ordered
        self._build(plan, "another engine serves meanwhile")
        return partial(self._open_new, file, plan)

    def stop(self) -> None:
        """Ends a build that runs, and lets none begin."""
        with self._lock:
            self._is_stopped = True
            if self._builder is not None:
                self._builder.stop()

    def hold(self, *, is_held: bool) -> None:
        """A build beside an engine that serves stands still, with all that it has done, until it is let go on."""
        with self._lock:
            self._is_held = is_held
            if self._builder is not None:
                self._builder.is_held = self._rests

    @property
    def _rests(self) -> bool:
        """Whether a build is to stand still: only one beside an engine that serves, for without one there is no line."""
        return self._is_held and self._ordered is not None

    def _open_planned(self, file: bare.ModelFile, plan: Blueprint) -> Engine:
        """TensorRT's engine, where it is there; else what its policy says."""
        try:
            if (engine := self._open_built(file, plan)) is not None:
                return engine
            meanwhile = self._ways_beside(file, plan)
        except ConfigError as error:  # too little memory, say: another one that is built would do no better
            return self._stand_in(file, f"its TensorRT engine cannot be used: {error}", error)
        if meanwhile is None:
            return self._open_after_building(file, plan)
        try:
            engine = open_first(self._request, file, meanwhile, plan.cache, self._tell_unused)
        except EngineUnfitError:  # one with other options, which has been set aside
            return self._open_after_building(file, plan)
        self._ordered = file, plan
        return engine

    def _open_built(self, file: bare.ModelFile, plan: Blueprint) -> Engine | None:
        """The engine that was built for this machine; None where there is none that is fit."""
        way = plan.built()
        for why in plan.cache.set_aside:
            self._tell_unused(
                Way(TENSORRT, file.path, why), EngineUnfitError(f"{file.path}: its engine was set aside: {why}")
            )
        if way is None:
            return None
        try:
            return open_first(self._request, file, [way], plan.cache, self._tell_unused)
        except EngineUnfitError:
            return None

    def _ways_beside(self, file: bare.ModelFile, plan: Blueprint) -> list[Way] | None:
        """What can serve while the engine is built; None where it is not to be built then."""
        if self._policy.build != "beside":
            return None
        similar = plan.similar()
        ways = [similar] if similar else []
        if self._request.backend == "auto":
            ways += stand_ins(file, self._request.order, "there was no TensorRT engine for it at the start")
        free_mb = telemetry.read().memory_available_mb
        if ways and free_mb is not None and free_mb < self._policy.beside_mb:
            log.info("engine_built_first", free_mb=free_mb, beside_mb=self._policy.beside_mb)
            return None
        return ways or None

    def _open_after_building(self, file: bare.ModelFile, plan: Blueprint) -> Engine:
        """Builds it first, unless that is not wanted; where that fails, another one serves."""
        if self._policy.build == "never":
            why = "no TensorRT engine has been built for it, and hardware.tensorrt.build is never"
            return self._open_other(
                file,
                why,
                ModelError(f"{file.path}: {why}; edge-agent model build --folder {plan.cache.folder} builds it"),
            )
        try:
            self._build(plan, "the line starts when it is ready")
            return self._open_new(file, plan)
        except BuildStoppedError:
            raise
        except EdgeAgentError as error:
            engine = self._open_other(file, "its TensorRT engine could not be built", error)
            self._reporter.event("engine_build_failed", "warning", str(error), {"reason": str(error)})
            return engine

    def _stand_in(self, file: bare.ModelFile, why: str, error: ConfigError) -> Engine:
        """Another one, with an event that says why, unless there was one."""
        engine = self._open_other(file, why, error)
        if error is not self._told:
            self._tell_unused(Way(TENSORRT, file.path, why), error)
        return engine

    def _open_other(self, file: bare.ModelFile, why: str, error: EdgeAgentError) -> Engine:
        """In place of TensorRT's; where there is none, or none is wanted, the error ends the agent."""
        ways = stand_ins(file, self._request.order, why) if self._request.backend == "auto" else []
        if not ways:
            raise error if isinstance(error, FatalError) else FatalError(str(error)) from error
        return open_first(self._request, file, ways)

    def _open_new(self, file: bare.ModelFile, plan: Blueprint) -> Engine:
        way = plan.built()
        if way is None:
            raise ModelError(f"{file.path}: the engine that was just built is not in {plan.cache.folder}")
        try:
            return open_way(self._request, file, way)
        except EngineUnfitError as error:
            plan.cache.discard(way.path, str(error))
            raise

    def _build(self, plan: Blueprint, meanwhile: str) -> Finished:
        with self._lock:
            if self._is_stopped:
                raise BuildStoppedError("the agent stops")
            self._builder = builder = EngineBuilder(plan.build)
            builder.is_held = self._rests
        data = {
            "model": plan.build.model.name,
            "fingerprint": plan.recipe.fingerprint,
            "precision": plan.recipe.precision,
        }
        text = f"a TensorRT engine is being built from {plan.build.model.name}; {meanwhile}"
        self._reporter.event("engine_building", "info", text, data)
        self._logged_s = 0.0
        try:
            finished = builder.run(self._note)
        finally:
            self._progress = None
        log.info("engine_built", path=str(finished.path), seconds=finished.seconds, precision=finished.precision)
        for note in finished.notes:
            log.warning("engine_build_note", note=note)
        return finished

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        if progress.elapsed_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = progress.elapsed_s
            share = progress.fraction and round(progress.fraction, 2)
            log.info("engine_build", stage=progress.stage, fraction=share, elapsed_s=round(progress.elapsed_s))

    def _tell_unused(self, way: Way, error: ConfigError) -> None:
        self._told = error
        reason = str(error).removeprefix(f"{way.path}: ")
        data = {"backend": way.backend, "engine": way.path.name, "reason": reason}
        self._reporter.event("engine_unused", "warning", f"{way.path.name} cannot be used: {reason}", data)
