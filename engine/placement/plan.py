"""The plan of one run: what lies where, which driver runs, and what it reads and computes."""

from dataclasses import dataclass
from enum import StrEnum

from engine.placement.flops import Flops
from engine.quantized.forms import Form

NOTHING = Flops(0, 0, 0, 0)


class Driver(StrEnum):
    """The order of a prefill: see engine/prefill.py."""

    CHUNK_MAJOR = "chunk-major"
    LAYER_MAJOR = "layer-major"


@dataclass(frozen=True, slots=True)
class DeviceBytes:
    """What a run holds on one device, beside what others hold there.

    `weights_bytes` stay; `pool_bytes` are room for weights that are read when they are needed.
    `room_bytes` is what may be taken; None where nobody has asked yet. The layers from
    `first_layer` on run here, `num_layers` of them; none on memory that only helps a GPU.
    """

    name: str
    room_bytes: int | None
    weights_bytes: int = 0
    pool_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    activation_bytes: int = 0
    first_layer: int = 0
    num_layers: int = 0

    @property
    def total_bytes(self) -> int:
        return (
            self.weights_bytes
            + self.pool_bytes
            + self.kv_bytes
            + self.state_bytes
            + self.activation_bytes
        )

    @property
    def lacking_bytes(self) -> int:
        """What it needs more than there is; 0 if it fits."""
        return 0 if self.room_bytes is None else max(self.total_bytes - self.room_bytes, 0)

    def __str__(self) -> str:
        parts = {
            "weights": self.weights_bytes,
            "pool": self.pool_bytes,
            "KV": self.kv_bytes,
            "states": self.state_bytes,
            "activations": self.activation_bytes,
        }
        shown = (f"{name} {gb(n)}" for name, n in parts.items() if n or name != "pool")
        return f"{gb(self.total_bytes)} GB = " + " + ".join(shown)


@dataclass(frozen=True, slots=True)
class Placement:
    """One run: bytes on each device and on disk, the driver, and the work to expect.

    `form` is that of most of the layers' matrices, `spill_bytes` hidden states that lie on
    disk between two layers (0: in memory), `saved_bytes` KV that is saved while it grows.
    `prefill_read_bytes` come from disk while the context is read, weights of a streamed model
    included, and `prefill_written_bytes` go there; `token_read_bytes` come from disk and
    `token_memory_bytes` from memory for one token after it, experts being chosen evenly.
    `load_bytes` are read once before. `fp16_copies_bytes` of the weights are second copies in
    float16, which make decoding faster. `why` is the reason for the driver, in one line.
    """

    devices: tuple[DeviceBytes, ...]
    driver: Driver = Driver.CHUNK_MAJOR
    form: Form = Form.PLAIN
    spill_bytes: int = 0
    saved_bytes: int = 0
    disk_room_bytes: int | None = None
    load_bytes: int = 0
    fp16_copies_bytes: int = 0
    prefill_read_bytes: int = 0
    prefill_written_bytes: int = 0
    token_read_bytes: int = 0
    token_memory_bytes: int = 0
    prefill_flops: Flops = NOTHING
    token_flops: Flops = NOTHING
    num_chunks: int = 0
    why: str = ""

    @property
    def is_streamed(self) -> bool:
        """Whether weights are read when they are needed instead of before."""
        return self.driver is Driver.LAYER_MAJOR

    @property
    def weights_bytes(self) -> int:
        return sum(device.weights_bytes for device in self.devices)

    @property
    def pool_bytes(self) -> int:
        return sum(device.pool_bytes for device in self.devices)

    @property
    def kv_bytes(self) -> int:
        return sum(device.kv_bytes for device in self.devices)

    @property
    def state_bytes(self) -> int:
        return sum(device.state_bytes for device in self.devices)

    @property
    def activation_bytes(self) -> int:
        return sum(device.activation_bytes for device in self.devices)

    @property
    def total_bytes(self) -> int:
        return sum(device.total_bytes for device in self.devices)

    @property
    def disk_bytes(self) -> int:
        """What is written."""
        return self.spill_bytes + self.saved_bytes

    @property
    def lacking_disk_bytes(self) -> int:
        """What it writes more than there is room for."""
        room = self.disk_room_bytes
        return 0 if room is None else max(self.disk_bytes - room, 0)

    @property
    def fits(self) -> bool:
        """Whether memory and spill file have room; a context that cannot be saved is told later."""
        spills = self.disk_room_bytes is None or self.spill_bytes <= self.disk_room_bytes
        return spills and not any(one.lacking_bytes for one in self.devices)

    @property
    def fits_and_is_saved(self) -> bool:
        return self.fits and not self.lacking_disk_bytes

    @property
    def computing(self) -> tuple[DeviceBytes, ...]:
        """The devices that layers run on."""
        return tuple(device for device in self.devices if device.num_layers)

    def __str__(self) -> str:
        if len(self.devices) == 1:
            return str(self.devices[0])
        return "; ".join(f"{device.name}: {device}" for device in self.devices)


def gb(num_bytes: int) -> str:
    """`num_bytes` in 10^9, so that small and large can be read."""
    size = num_bytes / 1e9
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}" if size >= 1 else f"{size:.2f}"
