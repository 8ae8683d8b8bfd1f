"""Amazon Reviews 2023: reviews and metadata as JSON lines.

Source: Y. Hou, J. Li, Z. He, A. Yan, X. Chen, J. McAuley, "Bridging language and items for
retrieval and recommendation", arXiv:2403.03952, 2024.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fedpeft.data.config import DataConfig
from fedpeft.data.readers import readers
from fedpeft.data.readers.amazon_2018 import Amazon2018Reader, plain


class Amazon2023Reader(Amazon2018Reader):
    """Reads reviews as interactions with the parent products, which the metadata describe.

    A text is title, store, categories, features and description, without HTML.
    """

    expects: ClassVar[str] = "one reviews file (*.jsonl or *.jsonl.gz) and one meta_*.jsonl"
    ending: ClassVar[str] = ".jsonl"
    keys: ClassVar[dict[str, str]] = {
        "user": "user_id",
        "item": "parent_asin",
        "timestamp": "timestamp",  # milliseconds
        "rating": "rating",
    }

    def attributes(self, record: dict[str, Any]) -> dict[str, str]:
        """Return the texts of a product by name, its title first, from its line of metadata."""
        return {
            "title": plain(record.get("title")),
            "store": plain(record.get("store")),
            "categories": plain(record.get("categories") or record.get("main_category")),
            "features": plain(record.get("features"), " "),
            "description": plain(record.get("description"), " "),
        }


readers.register("amazon_2023", config=DataConfig, build=Amazon2023Reader)
