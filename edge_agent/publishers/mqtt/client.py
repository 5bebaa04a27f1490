"""How paho is used: on a socket of ours, and with what is told to the broker besides the payload."""

from functools import lru_cache
from typing import TYPE_CHECKING

from edge_agent.publishers.mqtt.wire import Wire

if TYPE_CHECKING:  # paho is loaded when the first connection is made
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions

TAKE_UNCONFIRMED = (
    64  # messages the broker may send ahead of our PUBACKs; what a flood has more of waits there, or is dropped
)
TAKE_BYTES = 65536  # of one packet. What we read is under 4 KiB, and no answer of a broker comes near it
PUBLISH = 3  # MQTT 5, 2.1.2: the packet's type
TAKEN_OVER = 0x8E  # MQTT 5, 3.14.2.1: session taken over


def new_client(wire: Wire, client_id: str) -> "Client":
    """A client on our socket. `on_socket_register_write` stays unset: so `publish` writes at once."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    class WiredClient(Client):
        def _create_socket(self) -> Wire:
            return wire

    client = WiredClient(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(0)  # no limit: a limit would hold messages back without a word
    return client


def ping(client: "Client") -> None:
    """Asks the broker for an answer. paho does so by itself only after its keepalive, which is the broker's too."""
    client._send_pingreq()  # noqa: SLF001 - there is no public way; paho 2.1 and 2.2 have it alike


@lru_cache(maxsize=64)
def message_properties(packet_type: int, expiry_s: int | None) -> "Properties":
    """Made once for each expiry, and packed once: paho takes longer over them than over the message."""
    from paho.mqtt.properties import Properties

    class PackedProperties(Properties):
        def pack(self) -> bytes:
            return packed

    properties = PackedProperties(packet_type)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "application/json"
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    packed: bytes = Properties.pack(properties)  # type: ignore[no-untyped-call]
    return properties


def session_properties() -> "Properties":
    """The broker keeps nothing for us while we are away, and sends no more at a time than we take."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.SessionExpiryInterval = 0
    properties.ReceiveMaximum = TAKE_UNCONFIRMED
    properties.MaximumPacketSize = TAKE_BYTES
    return properties


def subscribe_options() -> "SubscribeOptions":
    """Never what was kept before we came; and what is published to be kept still says so, to be told from the rest."""
    from paho.mqtt.subscribeoptions import SubscribeOptions

    never = SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=never)


def in_words(reason: "ReasonCode") -> str:
    """`Not authorized (0x87)`."""
    return f"{reason.getName()} (0x{reason.value:02x})"
