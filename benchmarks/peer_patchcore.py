"""PatchCore of anomalib, run by benchmarks/peers.py in an environment of its own.

``python peer_patchcore.py JOB.json`` prints metrics by category as JSON, and imports nothing of ours. A
job names the images, the references, a state dict of timm's backbone and the sizes: see ``peers.py``.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def _model(job: dict[str, Any]) -> Any:
    from anomalib.metrics import AUPRO, AUROC, Evaluator
    from anomalib.models import Patchcore
    from anomalib.pre_processing import PreProcessor
    from safetensors.torch import load_file
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    side = job["size"]
    model = Patchcore(
        backbone=job["backbone"],
        layers=job["layers"],
        pre_trained=False,
        coreset_sampling_ratio=job["coreset"],
        num_neighbors=job["neighbours"],
        pre_processor=PreProcessor(
            transform=Compose(
                [Resize((side, side), antialias=True), Normalize(job["mean"], job["std"])]
            )
        ),
        evaluator=Evaluator(
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
                AUPRO(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
            ]
        ),
        visualizer=False,
    )
    left = model.model.feature_extractor.feature_extractor.load_state_dict(
        load_file(job["weights"]), strict=False
    )
    # what lies behind the levels that are used may be left over; nothing that is used may be missing
    if left.missing_keys:
        raise SystemExit(f"the peer's backbone lacks {left.missing_keys[:3]}")
    return model


def main() -> None:
    """Fit and test each category of the job."""
    warnings.simplefilter("ignore")
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine

    torch.set_num_threads(job["threads"])
    found = {}
    for category, references in job["references"].items():
        root = Path(job["images"]) / category
        chosen = Path(job["work"]) / category
        chosen.mkdir(parents=True)
        for name in references:
            (chosen / Path(name).name).symlink_to(name)
        data = Folder(
            name=category,
            root=root,
            normal_dir=str(chosen),
            abnormal_dir="test/defect",
            normal_test_dir="test/good",
            mask_dir="ground_truth/defect",
            train_batch_size=job["batch"],
            eval_batch_size=job["batch"],
            num_workers=0,
            val_split_mode="same_as_test",
        )
        engine = Engine(
            accelerator="cpu", devices=1, logger=False, default_root_dir=job["work"],
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        model = _model(job)
        engine.fit(model=model, datamodule=data)
        (metrics,) = engine.test(model=model, datamodule=data, verbose=False)
        found[category] = metrics
    print("METRICS " + json.dumps(found))


if __name__ == "__main__":
    main()
