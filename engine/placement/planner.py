"""Which driver, with what on which device: the one decision every run begins with."""

from dataclasses import replace
from typing import Any

import torch

from engine.config import ModelConfig
from engine.placement.flops import of_layers, of_model
from engine.placement.machine import Machine
from engine.placement.plan import DeviceBytes, Driver, Placement, gb
from engine.placement.run_bytes import (
    RunSpec,
    cached_bytes,
    embedding_bytes,
    on_disk_bytes,
    resident_bytes,
    routers_bytes,
)
from engine.placement.stages import Cost, Load, split
from engine.placement.weight_bytes import ModelParts, Precision

# Threads' stacks, widened weights, scratch of the matrix libraries, holes that allocators
# keep: measured at 40 MB beside a pool of 33. Of little room it is half.
_OTHER_BYTES = 64 << 20


def plan(
    config: ModelConfig,
    num_tokens: int,
    chunk_tokens: int,
    dtype: torch.dtype,
    *,
    kv_dtype: torch.dtype | None = None,
    is_mapped: bool = False,
    precision: Precision | None = None,
    machine: Machine | None = None,
    streams: bool | None = None,
    fp16_copies_bytes: int = 0,
) -> Placement:
    """How a context of `num_tokens` is read and asked. Allocates nothing, reads nothing.

    `kv_dtype` is what keys and values are kept in, `dtype` by default; for `is_mapped` see
    `RunSpec`. `precision` is what the checkpoint's plain weights are stored in, `dtype` by
    default. Without a `machine` all is resident on one device, whatever it has. With one, weights
    are resident where they fit, with `fp16_copies_bytes` more if these fit too, else streamed, or
    as `streams` says; if even that does not fit, what is returned says so by `fits`.
    """
    on_cpu = machine is None or not machine.gpus
    run = RunSpec(
        config,
        num_tokens,
        chunk_tokens,
        dtype,
        kv_dtype or dtype,
        is_mapped and on_cpu,
        precision or Precision.of(dtype),
        on_cpu,
    )
    if machine is None:
        return _with_fp16_copies(
            _resident(run, Machine(0), _split(run, (None,))), fp16_copies_bytes
        )
    rooms = tuple(gpu.num_bytes for gpu in machine.gpus) or (machine.ram_bytes,)
    first = rooms if machine.shares else rooms[:1]  # one device alone has nobody to wait for
    resident = _resident(run, machine, _split(run, first))
    if not resident.fits and len(first) < len(rooms):
        resident = _resident(run, machine, _split(run, rooms))
    # A GGUF file's blocks are mapped as they lie: there is nothing to read layer by layer.
    if streams is False or config.quantization.blocks or (resident.fits and not streams):
        return _with_fp16_copies(resident, fp16_copies_bytes)
    streamed = _streamed(run, machine)
    if streams:
        return streamed
    return streamed if streamed.fits or not _is_near(resident) else resident


def _with_fp16_copies(resident: Placement, num_bytes: int) -> Placement:
    if not num_bytes or len(resident.devices) > 1:
        return resident
    (device,) = resident.devices
    more = replace(device, weights_bytes=device.weights_bytes + num_bytes)
    placed = replace(
        resident,
        devices=(more,),
        fp16_copies_bytes=num_bytes,
        # One row is multiplied with the fp16 copies instead of what is twice as large.
        token_memory_bytes=resident.token_memory_bytes - num_bytes,
    )
    return placed if placed.fits else resident


def _is_near(resident: Placement) -> bool:
    """Whether the weights alone would fit: then it is the context that is too long."""
    return all(
        one.room_bytes is None or one.weights_bytes <= one.room_bytes for one in resident.devices
    )


def _split(run: RunSpec, rooms: tuple[int | None, ...]) -> tuple[DeviceBytes, ...]:
    """All weights and the whole context over the devices, layer by layer in order."""
    weights, layers = resident_bytes(run), run.config.layers
    embedding = embedding_bytes(run)
    activations = run.activation_bytes()
    kv = [run.kv_held_bytes(layer) for layer in layers]
    states = [run.state_bytes(layer) for layer in layers]
    last = weights.fixed_bytes - embedding
    known = [room for room in rooms if room is not None]
    stages = [(0, len(layers))]
    if len(known) > 1:
        costs = tuple(
            Cost(w.total_bytes + k + s, flops.total)
            for w, k, s, flops in zip(
                weights.layers,
                kv,
                states,
                of_layers(run.config, max(run.num_tokens, 1)),
                strict=True,
            )
        )
        stages = split(Load(costs, embedding, last, activations), known)
    devices = []
    for index, (first, end) in enumerate(stages):
        fixed = embedding * (index == 0) + last * (index == len(stages) - 1)
        devices.append(
            DeviceBytes(
                name="",
                room_bytes=rooms[index],
                weights_bytes=fixed + sum(one.total_bytes for one in weights.layers[first:end]),
                kv_bytes=sum(kv[first:end]),
                state_bytes=sum(states[first:end]),
                activation_bytes=activations,
                first_layer=first,
                num_layers=end - first,
            )
        )
    return tuple(devices)


def _resident(run: RunSpec, machine: Machine, devices: tuple[DeviceBytes, ...]) -> Placement:
    names = [gpu.name for gpu in machine.gpus] or ["RAM"]
    named = tuple(replace(one, name=name) for one, name in zip(devices, names, strict=False))
    parts, total = on_disk_bytes(run), sum(one.total_bytes for one in devices)
    room = sum(one.room_bytes or 0 for one in devices)
    left = room - total if room else None
    where = f"{len(named)} GPUs" if len(named) > 1 else named[0].name
    return Placement(
        devices=named,
        form=run.config.quantization.form,
        saved_bytes=run.kv_all_bytes() if run.is_mapped else 0,
        disk_room_bytes=machine.disk_bytes if run.is_mapped and room else None,
        load_bytes=parts.total_bytes,
        prefill_read_bytes=_kv_read_again(run, left),
        prefill_written_bytes=run.kv_all_bytes() if run.is_mapped else 0,
        token_read_bytes=_kv_of_token(run, left),
        token_memory_bytes=_token_memory(run, resident_bytes(run)),
        why=(
            f"the weights fit {where} as {run.held_as} ({gb(resident_bytes(run).total_bytes)} GB) "
            "beside the context: all layers for a chunk, then the next chunk"
        ),
        **_work(run),
    )


def _streamed(run: RunSpec, machine: Machine) -> Placement:
    """Each layer for all chunks, on one device; the weights come from disk in between."""
    gpu = max(machine.gpus, key=lambda one: one.num_bytes) if machine.gpus else None
    room = gpu.num_bytes if gpu else machine.ram_bytes
    weights, on_disk = resident_bytes(run), on_disk_bytes(run)
    pooled = cached_bytes(run)
    device = DeviceBytes(
        name=gpu.name if gpu else "RAM",
        room_bytes=room,
        weights_bytes=weights.fixed_bytes + routers_bytes(run),
        kv_bytes=_layer_major_kv(run, is_gpu=gpu is not None),
        state_bytes=sum(run.state_bytes(layer) for layer in run.config.layers),
        activation_bytes=run.activation_bytes() + run.reading_bytes(),
        num_layers=run.config.num_layers,
    )
    hidden, staged = run.hidden_bytes(), 2 * _largest_part(on_disk)
    if gpu is None:
        # On disk if memory would not leave the pool enough to read each weight once.
        in_memory = device.total_bytes + hidden + pooled.enough_cache_bytes <= machine.ram_bytes
        kept = hidden if in_memory else 0
        device = replace(device, activation_bytes=device.activation_bytes + kept)
    else:
        in_memory = hidden + staged <= machine.ram_bytes
    device = replace(device, pool_bytes=_pool(run, room - device.total_bytes, pooled))
    devices: tuple[DeviceBytes, ...] = (device,)
    cache_bytes = device.pool_bytes
    if gpu is not None:
        held_bytes = hidden if in_memory else 0
        helper = DeviceBytes(
            "RAM", machine.ram_bytes, pool_bytes=staged, activation_bytes=held_bytes
        )
        devices = (device, helper)
        # The system keeps files it has read in memory that nobody else takes.
        cache_bytes += max(machine.ram_bytes - helper.total_bytes, 0)
    reads_once = device.pool_bytes >= pooled.enough_cache_bytes
    spill = 0 if in_memory else hidden
    saved = run.kv_all_bytes() if run.is_mapped else 0
    return Placement(
        devices=devices,
        driver=Driver.LAYER_MAJOR,
        form=run.config.quantization.form,
        spill_bytes=spill,
        saved_bytes=saved,
        disk_room_bytes=machine.disk_bytes if spill or saved else None,
        load_bytes=on_disk.fixed_bytes,
        prefill_read_bytes=_read_for_chunks(run, on_disk, pooled, device.pool_bytes)
        + spill * run.config.num_layers,
        prefill_written_bytes=spill * run.config.num_layers + saved,
        token_read_bytes=_missed(run, on_disk, cache_bytes)
        + _kv_of_token(run, room - device.total_bytes),
        token_memory_bytes=_token_memory(run, weights),
        why=_why_streamed(run, machine, weights, pooled.enough_cache_bytes, reads_once),
        **_work(run),
    )


def _pool(run: RunSpec, free_bytes: int, parts: ModelParts) -> int:
    """As much as there is, never less than the work takes nor more than there are weights."""
    least = parts.least_cache_bytes(run.config.num_experts_per_token)
    free_bytes -= min(_OTHER_BYTES, max(free_bytes, 0) // 2)
    return min(max(free_bytes, least), parts.layers_bytes)


def _read_for_chunks(run: RunSpec, on_disk: ModelParts, pooled: ModelParts, pool_bytes: int) -> int:
    """Every weight once; of a layer that the pool cannot hold, the rest again for each chunk."""
    total = 0
    for read, kept in zip(on_disk.layers, pooled.layers, strict=True):
        missing = max(kept.total_bytes + kept.largest_bytes - pool_bytes, 0)
        again = min(missing / kept.total_bytes, 1) * (run.num_chunks - 1)
        total += round(read.total_bytes * (1 + again))
    return total


def _layer_major_kv(run: RunSpec, *, is_gpu: bool) -> int:
    """All of it; where it is saved, of the layer at hand, and what a question's fork copies."""
    held_bytes = sum(run.kv_held_bytes(layer) for layer in run.config.layers)
    if is_gpu or not run.is_mapped:
        return held_bytes
    return max(*map(run.kv_layer_bytes, run.config.layers), held_bytes)


def _largest_part(parts: ModelParts) -> int:
    return max(layer.largest_bytes for layer in parts.layers)


def _kv_read_again(run: RunSpec, left_bytes: int | None) -> int:
    """From disk while reading, where the system cannot keep the pages that each chunk looks at."""
    is_kept = not run.is_mapped or left_bytes is None or run.kv_all_bytes() <= left_bytes
    return 0 if is_kept else run.kv_all_bytes() * (run.num_chunks - 1) // 2


def _kv_of_token(run: RunSpec, left_bytes: int | None) -> int:
    if not run.is_mapped or left_bytes is None or run.kv_all_bytes() <= left_bytes:
        return 0
    return run.kv_token_bytes()


def _token_memory(run: RunSpec, weights: ModelParts) -> int:
    """What matmuls with one row, attention over all keys and the states move for one token."""
    states = sum(run.state_bytes(layer) for layer in run.config.layers)  # read and written
    head = run.head_bytes
    active = weights.active_bytes(run.config.num_experts_per_token)
    return active + head + run.kv_token_bytes() + states


def _missed(run: RunSpec, on_disk: ModelParts, cache_bytes: int) -> int:
    """From disk for one token: dense parts, which each token needs, are kept first."""
    dense_missed = max(on_disk.dense_bytes - cache_bytes, 0)
    experts = on_disk.experts_bytes
    if not experts:
        return dense_missed
    kept = max(cache_bytes - on_disk.dense_bytes, 0)
    chosen = on_disk.active_bytes(run.config.num_experts_per_token) - on_disk.dense_bytes
    return dense_missed + int(chosen * (1 - min(kept / experts, 1)))


def _work(run: RunSpec) -> dict[str, Any]:
    return {
        "prefill_flops": of_model(run.config, run.num_tokens),
        "token_flops": of_model(run.config, 1, before=run.num_tokens),
        "num_chunks": run.num_chunks,
    }


def _why_streamed(
    run: RunSpec, machine: Machine, weights: ModelParts, enough_bytes: int, reads_once: bool
) -> str:
    have = sum(gpu.num_bytes for gpu in machine.gpus) or machine.ram_bytes
    where = f"{len(machine.gpus)} GPUs" if len(machine.gpus) > 1 else "GPU" * len(machine.gpus)
    why = (
        f"weights as {run.held_as} ({gb(weights.total_bytes)} GB) and the context do not "
        f"fit the {where or 'RAM'} ({gb(have)} GB)"
    )
    if reads_once:
        return f"{why}: each layer for all chunks, so that each weight is read once"
    return (
        f"{why}, and what is left cannot hold a layer ({gb(enough_bytes)} GB with what is read "
        "ahead): part of it is read again for each chunk; larger chunks read less"
    )
