"""The worker's wiring: configuration in, a running service out. It decides nothing."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from l402core import telemetry
from l402core.bus import Bus
from l402core.control import control_app, serving
from l402core.delivering import Consumer
from l402core.events import Event, GradientMeasure, GradientUploaded, ReadWorkerParts
from l402core.lifecycle import run, run_until_asked
from l402core.objects import open_store
from l402core.objects_ready import ObjectsReady
from l402core.parts import tell_parts
from l402core.rings import UnsealingRing
from l402core.watched import Watched
from sparseloco.corpus import load_corpus
from sparseloco.model import GPTShape

from l402_oracle.config import WorkerConfig
from l402_oracle.keys import read_worker_keys
from l402_oracle.worker.app import CONSUMERS, Worker, consumers_on
from l402_oracle.worker.bench import TorchBench, usable_device


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    config = WorkerConfig()
    provider = telemetry.setup("oracle", trace_file=config.trace_file, log_level=config.log_level)
    try:
        run(_serve(config))
    finally:
        provider.shutdown()


async def _serve(config: WorkerConfig) -> None:
    device = usable_device(config.device)
    shape = GPTShape(width=config.model_width, layers=config.model_layers, heads=config.model_heads)
    bench = TorchBench(
        shape=shape, corpus=load_corpus(), chunk_k=config.chunk_k, threads=config.torch_threads, device=device
    )  # fmt: skip
    bus, keys = Bus(config.nats_url, "worker"), Watched(config.key_file, read_worker_keys)
    store = open_store(config.objects_url)
    objects = ObjectsReady(store, writing=True, clock=time.monotonic)
    worker = Worker(
        bench=bench,
        objects=store,
        bus=bus,
        key=UnsealingRing(lambda: keys.now().reading),
        answers_to=lambda: keys.now().answers_to,
        payload_max_bytes=config.payload_max_bytes,
    )
    register(bus, worker, consumers_on(device))

    async def ready() -> dict[str, bool]:
        return {"bus": await bus.ready(), "objects": await objects.answers()}

    tell_parts(bus, ReadWorkerParts, ready)
    try:
        await bus.start()
        config.data_dir.mkdir(parents=True, exist_ok=True)
        address = config.data_dir / "worker.url"
        async with serving(
            control_app("l402-train worker", ready), config.http_host, config.http_port, address_file=address
        ):
            try:
                await run_until_asked()
            finally:
                address.unlink(missing_ok=True)
    finally:
        await bus.stop()
        bench.close()


def register(bus: Bus, worker: Worker, consumers: tuple[Consumer, ...] = CONSUMERS) -> None:
    """Each consumer to the handler that has its name, and what ends its handlers to whoever answers for them."""
    isolating: dict[type[Event], Callable[[Any], Awaitable[None]]] = {
        GradientUploaded: worker.isolate_upload,
        GradientMeasure: worker.isolate_measure,
    }
    for consumer in consumers:
        name = consumer.event.name.removesuffix(".v1").replace(".", "_")
        bus.consume(consumer, getattr(worker, name), isolate=isolating.get(consumer.event))
