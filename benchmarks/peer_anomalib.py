"""A method of anomalib, run by benchmarks/peers.py in an environment of its own.

``python peer_anomalib.py JOB.json`` prints metrics by category as JSON, and imports nothing of ours. A
job names the method, its settings, the images, the references and a state dict: see ``peers.py``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def _without_downloads() -> None:
    """Let networks be made as they are, without published weights."""
    import timm

    make = timm.create_model

    def made(*arguments: Any, **settings: Any) -> Any:
        return make(*arguments, **{**settings, "pretrained": False})

    timm.create_model = made
    try:
        import open_clip
    except ImportError:
        return
    build = open_clip.create_model_and_transforms

    def built(name: str, pretrained: object = None, **settings: Any) -> Any:
        import torch

        torch.manual_seed(0)
        return build(name, pretrained=None, **settings)

    open_clip.create_model_and_transforms = built


def _model(job: dict[str, Any], category: str, masks: bool) -> Any:
    import anomalib.models
    from anomalib.metrics import AUPRO, AUROC, Evaluator
    from anomalib.pre_processing import PreProcessor
    from safetensors.torch import load_file
    from torchvision.transforms.v2 import Compose, InterpolationMode, Normalize, Resize

    side = job["size"]
    parts: dict[str, Any] = {}
    if job["weights"]:
        # by ours: bilinear, which is anomalib's default, gives other pixels
        resize = Resize((side, side), InterpolationMode.BICUBIC, antialias=True)
        parts["pre_processor"] = PreProcessor(
            transform=Compose([resize, Normalize(job["mean"], job["std"])])
        )
    else:
        parts["class_name"] = category  # a folder's images have no name of their own there
    model = getattr(anomalib.models, job["method"])(
        **job["settings"],
        **parts,
        evaluator=Evaluator(
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                *(
                    kind(fields=["anomaly_map", "gt_mask"], prefix="pixel_")
                    for kind in ((AUROC, AUPRO) if masks else ())
                ),
            ]
        ),
        visualizer=False,
    )
    if not job["weights"]:
        return model
    network = model.model
    for name in job["network"].split("."):
        network = getattr(network, name)
    left = network.load_state_dict(load_file(job["weights"]), strict=False)
    # what lies behind the levels that are used may be left over; nothing that is used may be missing
    if left.missing_keys:
        raise SystemExit(f"the peer's network lacks {left.missing_keys[:3]}")
    return model


def main() -> None:
    """Fit and test each category of the job."""
    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine

    torch.set_num_threads(job["threads"])
    _without_downloads()
    found = {}
    for category, references in job["references"].items():
        root = Path(job["images"]) / category
        masks = (root / "ground_truth").is_dir()
        chosen = Path(job["work"]) / category
        chosen.mkdir(parents=True)
        for name in references:
            (chosen / Path(name).name).symlink_to(name)
        data = Folder(
            name=category,
            root=root,
            normal_dir=str(chosen) if references else "train/good",
            abnormal_dir="test/defect",
            normal_test_dir="test/good",
            mask_dir="ground_truth/defect" if masks else None,
            train_batch_size=job["batch"],
            eval_batch_size=job["batch"],
            num_workers=0,
            val_split_mode="same_as_test",
        )
        engine = Engine(
            accelerator="cpu", devices=1, logger=False, default_root_dir=job["work"],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        model = _model(job, category, masks)
        if job["weights"]:  # the others learn nothing of normal images
            engine.fit(model=model, datamodule=data)
        (metrics,) = engine.test(model=model, datamodule=data, verbose=False)
        found[category] = metrics
    print("METRICS " + json.dumps(found))


if __name__ == "__main__":
    main()
