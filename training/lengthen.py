"""Stage 3: long sequences, so that the hybrid finds what stands far back.

    python -m training.lengthen --parent DIR --student runs/distil/model --text text.jsonl.xz \\
        --qa qa.jsonl.xz --run runs/lengthen [--softmax 18:0g,20:0g] [--log-scale 500]

The softmax layers named by --softmax first take that form, which may turn fewer dimensions than
before (far positions then look like near ones) and have an output gate; --log-scale makes all
softmax layers without a window sharpen beyond the length trained on (arXiv 2601.22156). The loss is
the cross-entropy of every token, more of answers; two in five sequences are retrieval and other
generated tasks, up to as long as a sequence.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from training import sft_loss
from training.command import Prepared, TrainingInputs, main
from training.convert import RECIPE_HELP, ConversionConfig, with_softmax
from training.data_mixture import Mixture
from training.schedule import Schedule

WEIGHTS = sft_loss.Weights(text=1.0, answer=4.0, kl=0.0)
MIXTURE = Mixture()

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
        steps=150,
        batch_sequences=2,
        sequence_tokens=2048,
        peak_rate=3e-5,
        final_rate=1e-5,
        warmup_steps=10,
        norm_factor=1.0,
        save_every=15,
        evaluate_every=50,
        num_held_out=8,
    ),
    "gpu": Schedule(
        steps=60,
        batch_sequences=16,
        sequence_tokens=8192,
        peak_rate=2e-05,
        final_rate=1e-05,
        warmup_steps=5,
        norm_factor=1.0,
        save_every=10,
        evaluate_every=30,
        num_held_out=8,
        micro_batch_sequences=1,
    ),
}


def prepare(job: TrainingInputs, options: argparse.Namespace) -> Prepared:
    student = sft_loss.load_student(options.student, job.place.device)
    num_tokens = job.data.token_ids.shape[1]
    far_options = {}
    if options.log_scale:
        far_options = {"log_scale_base": options.log_scale, "log_scale_from_tokens": num_tokens}
    model, config = with_softmax(
        student.model,
        student.config,
        student.model,
        job.parent_config(),
        ConversionConfig.parse(options.softmax),
        far_options,
    )
    config["max_position_embeddings"] = max(config["max_position_embeddings"], options.positions)
    teacher = job.load_parent().to(job.place.device)
    teacher.prepare_for_inference()
    weights = sft_loss.weights_of(options)
    shared = {"stage": "lengthen", "student": student.fingerprint, "weights": asdict(weights)}
    shared |= {"softmax": options.softmax, "log_scale": options.log_scale}
    return Prepared(sft_loss.Tuning(model, teacher, weights), config, shared)


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        sft_loss.add_options(parser, WEIGHTS)
        parser.add_argument("--softmax", default="", help=RECIPE_HELP)
        parser.add_argument(
            "--log-scale",
            type=float,
            default=0.0,
            help="a: q times log(p - n + a) / log(a) from position n, the sequences' length, on",
        )
        parser.add_argument(
            "--positions", type=int, default=0, help="tokens the result may be asked to read"
        )
        parser.set_defaults(mixture=MIXTURE)

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
