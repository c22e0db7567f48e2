"""The verb `bench`: how fast the engine is on this machine, and how near to what the machine can do."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.output import say, show_table

if TYPE_CHECKING:
    from lmworks.generate.benchmark import FormatReport, Limits, Settings, Spread, Workload

FORMATS = ("float32", "bfloat16", "int8", "int4")
_SEQUENCES = (8, 16)
_SHORT_PROMPT = 32  # tokens
_MIB = 2**20


def bench(
    model: Annotated[
        str, typer.Argument(help="A pulled model, a Hugging Face folder or a .gguf file.")
    ] = "smollm2-135m-instruct",
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Measure this weight format only: float32, bfloat16, int8, int4 or auto; repeatable."),
    ] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the long prompt.")] = 512,
    new: Annotated[int, typer.Option(help="Tokens generated for each sequence.")] = 64,
    rounds: Annotated[int, typer.Option(help="How often everything is measured, after one round to warm up.")] = 3,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps; auto: a CUDA GPU, but the CPU for int8 and int4.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Processors to compute on; 0: all that there are.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was measured as JSON.")] = False,
) -> None:
    """Measure the engine on this machine, and compare it with the limits of the machine.

    First and last the limits: how many bytes of memory are read, and how many numbers are multiplied and added in a
    second; the higher ones count. Between them, for each weight format in a process of its own, tokens per second from
    prompts in to tokens out: reading a long prompt, continuing it, and continuing 8 and 16 short ones at once. The
    median of the rounds comes first, then the slowest and the fastest.

    **How to read the shares.** "read" is the part of the memory bandwidth that reading the weights takes. A single
    sequence reads all of them for each token, so smaller weights are faster; several sequences share each reading.
    "multiplied" is the part of the other limit that the multiplications take: it bounds long prompts and many
    sequences. Where neither is high, something else costs the time. What else runs on the machine changes all numbers.

    Examples: `lmworks bench` · `lmworks bench --weights int4 --weights int8 --rounds 5` ·
    `lmworks bench ./model.gguf --weights auto --threads 1 --json`
    """
    if rounds < 1 or threads < 0:
        raise ValueError(f"--rounds must be at least 1 and --threads at least 0, got {rounds} and {threads}")
    unknown = [name for name in weights or () if name not in (*FORMATS, "auto")]
    if unknown:
        raise ValueError(f"--weights is one of {', '.join(FORMATS)}, auto; got {', '.join(unknown)}")
    if prompt < 1 or new < 2:
        raise ValueError(f"--prompt takes a token and --new 2 new tokens or more, got {prompt} and {new}")
    if not Path(model).exists():
        from lmworks.model.download import locate

        locate(model)  # a model that is not there is an error before anything is loaded or measured

    from lmworks.compiled import INTEGERS, choose_device, cores
    from lmworks.generate import benchmark

    many = [benchmark.Workload(_SHORT_PROMPT, sequences, new) for sequences in _SEQUENCES]
    workloads = (benchmark.Workload(prompt, 1, new), *many)
    where = choose_device(device, next((name for name in weights or () if name in INTEGERS), "auto"))
    on_cpu = where.type == "cpu"
    settings = benchmark.Settings(model, workloads, rounds, threads or cores(), str(where))
    typer.echo("measuring the limits of the machine" if on_cpu else f"on {where}", err=True)
    limits = benchmark.in_a_process(settings.threads, benchmark.measure_limits) if on_cpu else None
    reports = []
    for name in weights or [name for name in FORMATS if on_cpu or name not in INTEGERS]:
        typer.echo(f"measuring {name}", err=True)
        measured = (benchmark.measure_format, settings, name, time.monotonic())
        reports.append(benchmark.in_a_process(settings.threads, *measured))
    # Once more: a machine that was busy at first would have shares above the whole.
    again = benchmark.in_a_process(settings.threads, benchmark.measure_limits) if limits else None
    limits = limits.higher(again) if limits and again else None
    if as_json:
        _print_json(settings, limits, reports)
    else:
        _print_tables(settings, limits, reports)


def _print_json(settings: "Settings", limits: "Limits | None", reports: "list[FormatReport]") -> None:
    import json
    from dataclasses import asdict

    everything = {"settings": asdict(settings), "limits": limits and asdict(limits), "formats": [*map(asdict, reports)]}
    typer.echo(json.dumps(everything, indent=1))


def _print_tables(settings: "Settings", limits: "Limits | None", reports: "list[FormatReport]") -> None:
    if limits is None:
        say("limits: unknown, as the compiled kernels measure them, on the CPU")
    else:
        rates = f"{limits.bandwidth / 1e9:.1f} GB/s read, {limits.operations / 1e9:,.0f} GOP/s multiplied"
        say(f"limits: {rates}\n({limits.method})")
    show_table(
        ("weights", *_headings(settings.workloads)),
        [(report.weights, *_cells(settings.workloads, report, limits)) for report in reports],
        "tokens per second, of all sequences together; the shares are those of the median",
    )
    sizes = list(dict.fromkeys(name for report in reports for name in report.sizes))
    rows = []
    for report in reports:
        held = [f"{report.sizes.get(name, 0) / _MIB:,.0f}" for name in sizes]
        resident = [f"{size / _MIB:,.0f}" if size else "unknown" for size in (report.resident, report.peak)]
        rows.append((report.weights, *held, *resident, f"{report.first_token:.1f} s"))
    heads = ("weights", *sizes, "process", "its peak", "first token")
    show_table(heads, rows, "memory in MiB (of the process: beyond its libraries); seconds to the first token")


def _headings(workloads: "tuple[Workload, ...]") -> Iterator[str]:
    yield f"reading\n1 × {workloads[0].prompt:,}\ntokens"
    for workload in workloads:
        yield f"continuing\n{workload.sequences} × {workload.prompt:,}\ntokens"


def _cells(workloads: "tuple[Workload, ...]", report: "FormatReport", limits: "Limits | None") -> Iterator[str]:
    """The prefill of the first workload, then what each generates."""
    from lmworks.generate.benchmark import share_multiplied, share_read, spread

    prefill = spread([speed.prefill for speed in report.speeds[0]])
    multiplied = share_multiplied(prefill.median, report.operations[0][0], limits) if limits else 0.0
    yield _numbers(prefill) + (f"\n\nmultiplied {multiplied:.0%}" if limits else "")
    for workload, speeds, (_, operations) in zip(workloads, report.speeds, report.operations, strict=True):
        decode = spread([speed.decode for speed in speeds])
        cell = _numbers(decode)
        if limits is not None:
            read = share_read(decode.median, report.read_bytes, workload.sequences, limits)
            cell += f"\nread {read:.0%}\nmultiplied {share_multiplied(decode.median, operations, limits):.0%}"
        yield cell


def _numbers(rate: "Spread") -> str:
    return f"{rate.median:,.0f}\n{rate.least:,.0f}–{rate.most:,.0f}"
