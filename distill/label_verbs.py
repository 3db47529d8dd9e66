"""The verbs that look at a label store: `distill labels verify`, `repair`, `query`, ..."""

import argparse
import hashlib
import json
import re
from collections.abc import Callable


def verify_labels(args: argparse.Namespace) -> None:
    """Check every byte of a label store."""
    from distill.labels import account

    account.verify(args.store)
    print(f"{args.store}: every shard and label matches its checksum")


def repair_labels(args: argparse.Namespace) -> None:
    """Take damaged shards out of a label store, so that its job writes only these again."""
    from distill.labels import account

    found = account.repair(args.store)
    for path, reason in found.items():
        print(f"{path}: {reason}")
    if found:
        print(f"{args.store}: start its label job again with --resume")
    else:
        print(f"{args.store}: nothing is damaged")


def label_stats(args: argparse.Namespace) -> None:
    """Say how a label store was made and what it holds."""
    from distill.labels import account

    print(json.dumps(account.stats(args.store), indent=2))


def inspect_labels(args: argparse.Namespace) -> None:
    """Name the labels that a second opinion contradicts; nothing is removed."""
    from distill.datasets.photographs import open_photographs
    from distill.datasets.pseudo_labelled import PseudoLabelled
    from distill.inspection.firewall import inspect
    from distill.models.foreign import load_predictor

    images = open_photographs(args.data)
    witness = load_predictor(args.model, space=args.space) if args.model else None
    trusted = None
    if args.trusted is not None:
        seen = images if args.trusted_data is None else open_photographs(args.trusted_data)
        trusted = PseudoLabelled(seen, args.trusted, partial=True)
    count = inspect(images, args.store, predictor=witness, trusted=trusted)
    print(f"{args.store / 'suspects.jsonl'}: {count} labels")


def show_labels(args: argparse.Namespace) -> None:
    """Write a picture of one label, or of a sheet of them."""
    from distill.report import label_sheet

    out = args.out or args.store / _picture_name(args.key)
    print(label_sheet.show(args.store, out, key=args.key, photos=args.data))


def query_labels(args: argparse.Namespace) -> None:
    """Print the keys of the labels that a condition holds for, one on each line."""
    from distill.labels.query import write
    from distill.labels.store import LabelStore

    found = LabelStore(args.store, allow_incomplete=True).select(args.where)
    if args.out is not None:
        write(found, args.out)
        print(f"{args.out}: {len(found)} labels")
        return
    for key in found["key"]:
        print(key.as_py())


def _picture_name(key: str | None) -> str:
    """Of the sheet, or of one label: the end of its key, and a digest, as keys differ in more."""
    if key is None:
        return "sheet.png"
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[-100:]
    return f"label-{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.png"


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {
    "labels verify": verify_labels,
    "labels repair": repair_labels,
    "labels stats": label_stats,
    "labels inspect": inspect_labels,
    "labels show": show_labels,
    "labels query": query_labels,
}
