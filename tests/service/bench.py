"""What the checks share: the container, the report, the releases, and how edge-agent's own installer is called."""

from dataclasses import dataclass
from subprocess import CompletedProcess

from tests.service.container import Container
from tests.service.lines import MODEL, PICTURES, Instance
from tests.service.report import Report

LINE = "line"
TECHNICIAN = "technician"
PROGRAM = "/usr/local/bin/edge-agent"
INSTALL_MOST_S = 180.0


@dataclass(slots=True)
class Bench:
    """One run in one container."""

    container: Container
    report: Report

    @property
    def line(self) -> Instance:
        """The instance that the installer was asked for."""
        return self.instance(LINE)

    def instance(self, name: str) -> Instance:
        """Any instance."""
        return Instance(self.container, name)

    def install(self, release: str, *options: str, check: bool = True, in_haste: bool = False) -> CompletedProcess[str]:
        """`scripts/install` of a release that was carried into the container, from its wheel folder.

        In haste pip compiles nothing, which is half of its work: for what will not run for long.
        """
        command = [f"/mnt/{release}/scripts/install", "--wheels", f"/mnt/{release}-wheels", *options]
        haste = ["env", "PIP_NO_COMPILE=1"] if in_haste else []
        return self.container.run(*haste, *command, check=check, timeout_s=INSTALL_MOST_S)

    def agent(self, *words: str, user: str | None = None, timeout_s: float = 30.0) -> CompletedProcess[str]:
        """`edge-agent WORDS` as root or somebody else; its exit code is the caller's business."""
        return self.container.run(PROGRAM, *words, user=user, check=False, timeout_s=timeout_s)


def furnish(bench: Bench) -> None:
    """What a line has beside the agent: a broker, a model, pictures in place of a camera, a technician."""
    container = bench.container
    container.run("useradd", "--create-home", TECHNICIAN)
    container.write("/etc/mosquitto/conf.d/line.conf", "listener 1883 0.0.0.0\nallow_anonymous true\n")
    container.run("systemctl", "restart", "mosquitto")
    container.run("systemd-run", "--quiet", "--unit=arm", "mosquitto_sub", "-V", "5", "-t", "factory/#")
    for source, inside in (("/mnt/model", MODEL.rpartition("/")[0]), ("/mnt/pictures", PICTURES)):
        container.run("sh", "-c", 'mkdir -p "$2" && cp -r "$1"/. "$2" && chmod -R a+rX "$2"', "copy", source, inside)
