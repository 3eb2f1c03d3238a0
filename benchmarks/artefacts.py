"""The size of the built functions, compared with the packages that the alternatives would need."""

from importlib.metadata import distribution
from pathlib import Path

from benchmarks.measure import BUILT, Measures, Run, goal

INSTEAD = {
    "ingest": {
        "boto3, packaged": ["boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"],
    },
    "process": {
        "orjson + pyarrow": ["orjson", "pyarrow"],
        "pandas + pyarrow": ["numpy", "pandas", "pyarrow", "python-dateutil", "six"],
        "DuckDB": ["duckdb"],
        "polars": ["polars", "polars-runtime-32"],
    },
}


MEGABYTES = {"ingest": 20, "process": 60}


def measure(run: Run) -> list[Measures]:
    run.progress("artefacts")
    measures = Measures("artefacts")
    for function, alternatives in INSTEAD.items():
        built = [path for path in (BUILT / f"{function.title()}Function").rglob("*") if path.is_file()]
        note = "the others are packages without any code of yours; an AWS SDK comes with Lambda's runtime"
        measures.add(f"{function}, unzipped", "MB", "ours", megabytes(built), note=note)
        what = f"{function}, unzipped: MB"
        run.goals.append(goal(megabytes(built), MEGABYTES[function], what, at_most=True))
        for name, packages in alternatives.items():
            files = [path for package in packages for path in installed(package)]
            measures.add(f"{function}, unzipped", "MB", name, megabytes(files))
    return [measures]


def installed(package: str) -> list[Path]:
    files = [Path(str(file.locate())) for file in distribution(package).files or []]
    return [path for path in files if path.exists() and path.suffix != ".pyc"]


def megabytes(files: list[Path]) -> float:
    return sum(path.stat().st_size for path in files) / 1e6
