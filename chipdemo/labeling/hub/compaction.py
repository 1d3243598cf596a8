"""Merges the small shards of the dataset, while others go on writing."""

from dataclasses import dataclass

from chipdemo.errors import ChipDemoError, HubError
from chipdemo.hub import describe_error
from chipdemo.labeling.hub import card
from chipdemo.labeling.hub.publish import CARD, COMPACTED, SHARD_BYTES, Change, Head, Repository, new_shard


@dataclass(frozen=True)
class Compacted:
    """Number of shards before and after."""

    before: int
    after: int


def compact(dataset: str, shard_bytes: int = SHARD_BYTES) -> Compacted:
    """Merge the shards of the dataset owner/name into ones of up to shard_bytes. Raises HubError.

    Each commit adds one merged shard, deletes exactly the shards that it was made of, and notes their names,
    by which a writer finds out that its own shard had arrived. After a commit of somebody else in between,
    the merge is repeated. Duplicate events are dropped. At the end the numbers in the card are counted anew.
    """
    repository = Repository(dataset, public=None)
    try:
        before = len(repository.head().shards)
        ids: dict[str, list[str]] = {}  # of the events, by shard; a shard never changes
        while repository.commit(lambda head: _merge(repository, head, shard_bytes, ids)):
            pass
        repository.commit(lambda head: _recount(repository, head))
        head = repository.head()
    except ChipDemoError:
        raise
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        raise HubError(
            f"{dataset} was not compacted completely: {describe_error(error)} No label is lost. Run it again."
        ) from error
    return Compacted(before, len(head.shards))


def _merge(repository: Repository, head: Head, shard_bytes: int, ids: dict[str, list[str]]) -> Change | None:
    """Merges the oldest shards that together have at most shard_bytes; None where there are no two."""
    from chipdemo.labeling.hub.shards import merged, parquet_of

    group = _group(head, shard_bytes)
    if not group:
        return None
    for shard in set(head.shards) - set(ids):
        ids[shard] = repository.table(head, shard, ["event_id"])["event_id"].to_pylist()
    elsewhere = {event_id for shard in set(head.shards) - set(group) for event_id in ids[shard]}
    table = merged([repository.table(head, shard) for shard in group], elsewhere)
    files = {new_shard(): parquet_of(table)} if len(table) else {}
    compacted = "\n".join(sorted(head.compacted | set(group))) + "\n"
    return Change(f"{len(group)} shards into one", files | {COMPACTED: compacted.encode()}, group)


def _group(head: Head, shard_bytes: int) -> list[str]:
    """The oldest two or more consecutive shards of up to shard_bytes together; or none."""
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
    text = card.rewrite(head.card, repository.name, repository.census(head))
    if text == head.card:
        return None
    return Change("Labels counted anew", {CARD: text.encode("utf-8", "surrogateescape")})
