"""Stage 4: answer from what was read, quote it as it stands, and say when it is not there.

    python -m training.read --parent DIR --student runs/lengthen/model --text text.jsonl.xz \\
        --qa qa.jsonl.xz --run runs/read

Questions on real texts and generated tasks, among them quotes and questions without an answer. Only
answers are learnt; a little KL to the parent keeps the rest as it is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from training import sft_loss
from training.command import Prepared, TrainingInputs, main
from training.data_mixture import Mixture
from training.schedule import Schedule

WEIGHTS = sft_loss.Weights(text=0.0, answer=8.0, kl=0.1)
MIXTURE = Mixture(text=0.1, qa=0.4, generated=0.5)

PRESETS = {
    "smoke": Schedule(
        steps=12,
        batch_sequences=2,
        sequence_tokens=288,
        peak_rate=2e-3,
        final_rate=2e-4,
        warmup_steps=2,
        norm_factor=1.0,
        save_every=6,
        evaluate_every=12,
        num_held_out=4,
    ),
    "cpu": Schedule(
        steps=300,
        batch_sequences=2,
        sequence_tokens=1024,
        peak_rate=5e-5,
        final_rate=5e-6,
        warmup_steps=10,
        norm_factor=1.0,
        save_every=25,
        evaluate_every=50,
        num_held_out=12,
    ),
    "gpu": Schedule(
        steps=150,
        batch_sequences=64,
        sequence_tokens=2048,
        peak_rate=2e-05,
        final_rate=2e-06,
        warmup_steps=10,
        norm_factor=1.0,
        save_every=25,
        evaluate_every=50,
        num_held_out=32,
        micro_batch_sequences=8,
    ),
}


def prepare(job: TrainingInputs, options: argparse.Namespace) -> Prepared:
    student = sft_loss.load_student(options.student, job.place.device)
    teacher = job.load_parent().to(job.place.device)
    teacher.prepare_for_inference()
    weights = sft_loss.weights_of(options)
    shared = {"stage": "read", "student": student.fingerprint, "weights": asdict(weights)}
    return Prepared(sft_loss.Tuning(student.model, teacher, weights), student.config, shared)


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        sft_loss.add_options(parser, WEIGHTS)
        parser.set_defaults(mixture=MIXTURE)

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
