"""Many small shards of the dataset into few, while others go on writing."""

from dataclasses import dataclass

from chipdemo.errors import ChipDemoError, HubError
from chipdemo.hub import describe_error
from chipdemo.labeling.hub import card
from chipdemo.labeling.hub.publish import CARD, COMPACTED, SHARD_BYTES, Change, Head, Repository, new_shard


@dataclass(frozen=True)
class Compacted:
    """How many shards there were, and how many there are."""

    before: int
    after: int


def compact(dataset: str, shard_bytes: int = SHARD_BYTES) -> Compacted:
    """Merge the shards of the dataset owner/name into ones of up to shard_bytes. Raises HubError.

    One commit a merged shard: it comes, exactly those that were read go, and their names are noted, so
    that a writer who does not know whether its own arrived still finds out. Where somebody commits
    meanwhile, it is done anew upon that. Events that are there twice stay once. At the end the card's
    figures are counted anew.
    """
    repository = Repository(dataset, public=None)
    try:
        before = len(repository.head().shards)
        ids: dict[str, list[str]] = {}  # of the events, by shard; a shard never changes
        while repository.amend(lambda head: _merge(repository, head, shard_bytes, ids)):
            pass
        repository.amend(lambda head: _recount(repository, head))
        head = repository.head()
    except ChipDemoError:
        raise
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        raise HubError(
            f"Expected to compact {dataset}; found {describe_error(error)} No label is lost: run it again."
        ) from error
    return Compacted(before, len(head.shards))


def _merge(repository: Repository, head: Head, shard_bytes: int, ids: dict[str, list[str]]) -> Change | None:
    """The first shards that together are no more than shard_bytes as one; None where there are no two."""
    from chipdemo.labeling.hub.shards import merged, parquet_of

    group = _group(head, shard_bytes)
    if not group:
        return None
    for shard in set(head.shards) - set(ids):
        ids[shard] = repository.table(head, shard, ["event_id"])["event_id"].to_pylist()
    elsewhere = {event_id for shard in set(head.shards) - set(group) for event_id in ids[shard]}
    table = merged([repository.table(head, shard) for shard in group], elsewhere)
    files = {new_shard(): parquet_of(table)} if len(table) else {}
    gone = "\n".join(sorted(head.compacted | set(group))) + "\n"
    return Change(f"{len(group)} shards into one", files | {COMPACTED: gone.encode()}, group)


def _group(head: Head, shard_bytes: int) -> list[str]:
    """Shards, oldest first, of up to shard_bytes together; none unless they are two or more."""
    group: list[str] = []
    for shard in sorted(head.shards):
        if sum(head.sizes[one] for one in [*group, shard]) <= shard_bytes:
            group.append(shard)
        elif len(group) > 1:
            break
        else:
            group = [shard] if head.sizes[shard] <= shard_bytes else []
    return group if len(group) > 1 else []


def _recount(repository: Repository, head: Head) -> Change | None:
    text = card.rewritten(head.card, repository.name, repository.census(head))
    if text == head.card:
        return None
    return Change("Labels counted anew", {CARD: text.encode("utf-8", "surrogateescape")})
