"""What a study was made of, kept beside it: protocols, digests of the inputs, who ran it.

A study folder can then be told again to a tracker on a machine that has not the anatomy.
"""

import json
from dataclasses import asdict
from pathlib import Path

from bmapest_ray.base.errors import MissingInput
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.files import read_json, replace_text, writing
from bmapest_ray.study.loading import to_dict
from bmapest_ray.study.records import ProtocolInfo, StudyInfo

FILE = "inputs.json"


def write_inputs(study: StudyInfo) -> None:
    """Write ``inputs.json`` into the study's folder.

    Raises
    ------
    InvalidInput
        If the folder cannot be written.
    """
    content = {
        "protocols": [asdict(protocol) for protocol in study.protocols],
        "digests": dict(study.digests),
        "runner": dict(study.runner),
    }
    with writing(study.directory):
        replace_text(study.directory / FILE, json.dumps(content, indent=1, default=str))


def read_study(directory: Path, config: StudyConfig) -> StudyInfo:
    """Read back what a tracker and a report are told about a study.

    Raises
    ------
    MissingInput
        If the study was written by a version that did not keep it.
    """
    if not (directory / FILE).is_file():
        raise MissingInput(
            f"a study folder must hold {FILE}, {directory} does not; 'bmapest run --resume' adds it"
        )
    content = read_json(directory / FILE)
    return StudyInfo(
        id=str(read_json(directory / "study.json")["id"]),
        name=config.name,
        question=config.question,
        directory=directory.absolute(),
        config=to_dict(config),
        protocols=tuple(ProtocolInfo(**row) for row in content["protocols"]),
        digests=content["digests"],
        runner=content["runner"],
    )
