"""Stand-in for the module Sample Data: keeps what was registered, so that a test can look at it."""

from __future__ import annotations

import types


def build_sample_data_module() -> types.ModuleType:
    """Return a module `SampleData` whose logic collects registered sources in `sources`."""

    class SampleDataLogic:
        sources: list[dict] = []

        @staticmethod
        def registerCustomSampleDataSource(**source) -> None:
            SampleDataLogic.sources.append(source)

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    return module
