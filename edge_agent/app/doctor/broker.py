"""The broker: found, reached, trusted, signed in to, allowed, and heard by somebody."""

import ssl
from collections.abc import Iterator, Sequence

from edge_agent.app.doctor.broker_talk import NOBODY, NOT_AUTHORISED, OFFLINE, Talk, talk
from edge_agent.app.doctor.context import Context
from edge_agent.app.doctor.findings import Check, Finding, fail, ok, skip, warn
from edge_agent.app.doctor.systemd import Unit
from edge_agent.app.status import unheard

SOON_DAYS = 14.0
NO_BROKER = "verdicts go to standard output: there is no broker"
_UNKNOWN_CA = (
    "unable to get local issuer certificate",
    "unable to get issuer certificate",
    "self-signed certificate",
    "self signed certificate",  # OpenSSL 1.1
    "certificate signature failure",
)


def _talk(context: Context) -> Talk | None:
    """None without a broker."""
    table = context.config.mqtt
    if table is None:
        return None
    topics = context.config.device.topics(table.prefix)
    verdicts = [topics.of("verdict", camera.id) for camera in context.config.cameras] * context.probe_verdicts
    session = context.live.get("session") if context.live else None
    return talk(table, topics, session, verdicts, speak=not context.is_up)


def _steps(context: Context, *steps: str) -> tuple[Talk | None, Finding | None]:
    """The talk, and the finding of a check that cannot say anything because an earlier step failed."""
    made = context.once(_talk)
    if made is None:
        return None, skip(NO_BROKER)
    order = ("secrets", "name", "port", "tls", "login", "done")
    if order.index(made.reached) < order.index(steps[0]):
        earlier = {"secrets": "secrets", "name": "broker-name", "port": "broker-port", "tls": "broker-tls"}
        return made, skip(f"see {earlier.get(made.reached, 'broker-login')}")
    return made, None


def look_at_name(context: Context) -> Iterator[Finding]:
    """Whether its name has an address."""
    made, instead = _steps(context, "name")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    host = context.config.mqtt.host
    if made.reached == "name":
        where = context.place("mqtt", "host")
        yield fail(
            f"{host} has no address: {made.trouble}", f'write the broker\'s address at {where}: host = "192.0.2.10"'
        )
    else:
        yield ok(f"{host} is {', '.join(made.addresses[:3])}")


def look_at_port(context: Context) -> Iterator[Finding]:
    """Whether something answers at its port."""
    made, instead = _steps(context, "port")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    table = context.config.mqtt
    name = f"{table.host}:{table.port}"
    if made.reached != "port":
        yield ok(f"{name} takes connections")
    elif isinstance(made.error, ConnectionRefusedError):
        fix = "sudo systemctl start mosquitto" if _is_here(made) else f"start the broker on {table.host}"
        yield fail(f"nothing listens on {name}, which {_port(context)} names: {made.trouble}", fix)
    else:
        fix = f"mend the network: `ping {table.host}` has to work, and a firewall to let port {table.port} through"
        yield fail(f"{name}: {made.trouble}", fix)


def _is_here(made: Talk) -> bool:
    return any(address.startswith("127.") or address == "::1" for address in made.addresses)


def _port(context: Context) -> str:
    return context.place("mqtt", "port")


def look_at_tls(context: Context) -> Iterator[Finding]:
    """Whether its certificate is good for us, and ours for it."""
    made, instead = _steps(context, "tls")
    if context.config.mqtt is not None and context.config.mqtt.tls is None:
        yield skip("there is no [mqtt.tls]: passwords and verdicts go as plain text")
    elif instead or made is None:
        yield instead or skip(NO_BROKER)
    elif made.reached == "tls":
        yield fail(made.trouble, _tls_fix(context, made))
    elif made.days_left is not None and made.days_left < SOON_DAYS:
        yield warn(f"the broker's certificate expires in {made.days_left:.0f} days", "renew it on the broker")
    else:
        days = "" if made.days_left is None else f"for {made.days_left:.0f} days"
        yield ok(f"the broker's certificate is good {days}".rstrip())


def _tls_fix(context: Context, made: Talk) -> str:
    table = context.config.mqtt
    words = made.error.verify_message if isinstance(made.error, ssl.SSLCertVerificationError) else ""
    if "expired" in words:
        return "renew the broker's certificate, on the broker"
    if "not yet valid" in words:
        return "set the clock of this device: sudo timedatectl set-ntp true"
    if "mismatch" in words or "not valid for" in words:
        names = f" ({', '.join(made.names)})" if made.names else ""
        return f"set `host` at {context.place('mqtt', 'host')} to a name that the certificate has{names}"
    if any(known in words for known in _UNKNOWN_CA):
        ca = table.tls.ca or "the system's list"
        where = context.place("mqtt", "tls", "ca")
        return f"set `ca` at {where} to the certificate of whoever signed the broker's: {ca} is another's"
    if "wants a certificate" in made.trouble or "CERTIFICATE_REQUIRED" in made.trouble:
        return f"set `cert` and `key` in [mqtt.tls], {context.place('mqtt', 'tls')}: the broker wants to know who comes"
    return f"set `port` at {_port(context)} to the broker's listener with TLS, mostly 8883"


def look_at_login(context: Context) -> Iterator[Finding]:
    """Whether it lets us in."""
    made, instead = _steps(context, "login")
    if made is not None and made.reached == "secrets":
        yield skip(made.trouble)
    elif instead or made is None:
        yield instead or skip(NO_BROKER)
    elif made.reached == "done":
        yield ok(f"it lets {context.config.mqtt.username or 'us, without a name,'} in")
    elif "(0x86)" in made.trouble or "(0x87)" in made.trouble:
        yield fail(made.trouble, _password_fix(context))
    elif "has not answered" in made.trouble:
        yield fail(made.trouble, "start the broker anew: sudo systemctl restart mosquitto")
    else:
        plain = "" if context.config.mqtt.tls else "; one that wants TLS needs [mqtt.tls]"
        yield fail(made.trouble, f"set `port` at {_port(context)} to the broker's listener for MQTT 5{plain}")


def _password_fix(context: Context) -> str:
    table = context.config.mqtt
    if table.username is None:
        return (
            f"set `username` and `password_file` in [mqtt], {context.place('mqtt')}: the broker wants to know who comes"
        )
    if table.password_file is None:
        return f"set `password_file` in [mqtt], {context.place('mqtt')}"
    return f"write the password of {table.username} into {table.password_file}, then {context.reload}"


def look_at_link(context: Context) -> Iterator[Finding]:
    """Whether the agent itself gets there: its sandbox, and what it says of its connections."""
    made, instead = _steps(context, "port")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    unit, links = context.unit, context.live.get("links") if context.live else None
    barred = [address for address in made.addresses if isinstance(unit, Unit) and not unit.may_reach(address)]
    down = [name for name, is_up in links.items() if not is_up] if isinstance(links, dict) else []
    if barred and isinstance(unit, Unit):
        name = unit.name.removesuffix(".service")
        fix = f"sudo systemctl edit {name}, and write: [Service] IPAddressAllow={barred[0]}"
        yield fail(f"the sandbox of the service does not let it reach {', '.join(barred)}", fix)
    elif down:
        yield fail(f"the agent has no connection: {' and '.join(down)}", "edge-agent logs --event 'link_*' -n 5")
    elif not isinstance(links, dict):
        yield skip("no agent tells whether it is connected")
    else:
        yield ok("the agent is connected")


def look_at_acl(context: Context) -> Iterator[Finding]:
    """Whether it takes our messages: its answers to a try, or what the running agent has met."""
    made, instead = _steps(context, "done")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    refused = [topic for topic, code in made.codes.items() if code >= 0x80]  # noqa: PLR2004 - MQTT 5: from there on an error
    met = [reason for reason in context.reasons if reason in ("verdicts_refused", "records_refused")]
    user = context.config.mqtt.username or "clients without a name"
    if refused:
        code = made.codes[refused[0]]
        evidence = f"the broker does not take {', '.join(refused)} (0x{code:02x})"
        yield fail(evidence, _acl_fix(refused[:1], user, code))
    elif met:
        topics = context.config.device.topics(context.config.mqtt.prefix).listing(("+",))
        yield fail(f"the agent says: {', '.join(met)}", _acl_fix(topics, user, NOT_AUTHORISED))
    elif context.is_up and context.live is None:
        yield skip(f"only the running agent knows, and does not tell you: {context.silent}")
    elif not context.is_up and not made.codes:
        yield skip("nothing was tried: see one-agent")
    else:
        tried = f"it takes {', '.join(made.codes)}" if made.codes else "the agent has met no refusal"
        yield ok(tried)


def _acl_fix(topics: Sequence[str], user: str, code: int) -> str:
    """A line of the ACL for each topic: one for all would let the agent write its own triggers and acknowledgements."""
    if code != NOT_AUTHORISED:
        return "raise the broker's quota for this client"
    each = ", a line each" if len(topics) > 1 else ""
    lines = ", ".join(f"topic write {topic}" for topic in topics)
    return f"write below `user {user}` in the broker's ACL{each}: {lines}; then sudo systemctl reload mosquitto"


def look_at_listeners(context: Context) -> Iterator[Finding]:
    """Whether somebody subscribes."""
    made, instead = _steps(context, "done")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    table = context.config.mqtt
    topic = context.config.device.topics(table.prefix).of("verdict", context.config.cameras[0].id)
    fix = f"start the arm or gateway, and have it subscribe to {topic}"
    deaf = [topic for topic, code in made.codes.items() if code == NOBODY]
    verdicts = [topic for topic in deaf if "/verdict/" in topic]
    if context.live and (why := unheard(context.live)):
        yield skip(f"no verdict gets through: {why}; see broker-link and broker-acl")
    elif "no_arm" in context.reasons or verdicts:
        yield fail(f"nobody subscribes to {', '.join(verdicts) or 'the verdicts'} (0x10)", fix)
    elif deaf:
        yield warn(f"nobody subscribes to {deaf[0]} (0x10), which an arm does", fix)
    elif context.is_up:
        yield ok("the agent's verdicts are heard") if context.live else skip(context.silent)
    elif made.codes:
        yield ok("somebody subscribes to what was tried")
    else:
        yield skip("nothing was tried: see broker-acl")


def look_at_namesakes(context: Context) -> Iterator[Finding]:
    """Whether another program speaks as this device, or takes its connections."""
    made, instead = _steps(context, "done")
    if instead or made is None:
        yield instead or skip(NO_BROKER)
        return
    device, unstable = context.config.device.id, [r for r in context.reasons if r.startswith("connection_unstable")]
    fix = f"give one of the two another `id` in [device]: {context.place('device', 'id')}"
    if made.sessions and not (context.is_up and context.live is None):
        yield fail(f"another agent speaks as {device} now, session {min(made.sessions)[:8]}", fix)
    elif unstable:
        yield fail(f"the broker ends each connection soon: another client has the id ea-{device}-…", fix)
    elif context.is_up and context.live is None:
        yield skip(f"which session is the agent's cannot be told: {context.silent}")
    elif not context.is_up and made.kept not in ("", OFFLINE):
        yield skip(f"the broker keeps {device} as `{made.kept}`: an agent elsewhere, or one that was cut off just now")
    else:
        yield ok(f"nobody else was heard as {device}")


CHECKS = (
    Check("broker-name", "broker", "a host name that has no address", look_at_name, "configuration"),
    Check("broker-port", "broker", "nothing listens there, or no way leads there", look_at_port, "configuration"),
    Check(
        "broker-tls", "broker", "a certificate of another authority or host, or expired", look_at_tls, "configuration"
    ),
    Check("broker-login", "broker", "a wrong password; a broker that is silent", look_at_login, "configuration"),
    Check(
        "broker-link",
        "broker",
        "an agent without a connection, or whose sandbox lets it have none",
        look_at_link,
        "configuration",
    ),
    Check("broker-acl", "broker", "messages that the broker refuses (0x87)", look_at_acl, "configuration"),
    Check("subscribers", "broker", "nobody listens (0x10)", look_at_listeners, "configuration"),
    Check("one-agent", "broker", "a second agent with the same id", look_at_namesakes, "configuration"),
)
