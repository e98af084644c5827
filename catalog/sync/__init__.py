"""Brings the catalogue in line with what a provider lists: zones, GPU types, prices, stock.

Values in (`SeenOffer`), rows written, a `Report` out; whoever asks the provider does so before, outside of any
transaction. What is new is created; a new type is offered for new machines unless the engine can't use its GPU. What
is no longer listed is marked (`vanished_at`) and never deleted, and unmarked when it comes back. What an operator
edited by hand is kept (`catalog.hand_edits`); stock and `vanished_at` are the provider's word and follow it always.
"""

from catalog.sync.records import due, note_failure, request
from catalog.sync.values import Place, Report, SeenOffer
from catalog.sync.zones import sync_zone, sync_zones

__all__ = ["Place", "Report", "SeenOffer", "due", "note_failure", "request", "sync_zone", "sync_zones"]
