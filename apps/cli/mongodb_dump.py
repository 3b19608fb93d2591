"""Databases as files in mongodump's layout, all as they were at one moment; mongorestore takes them too."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bson import decode_file_iter, json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

_METADATA = ".metadata.json"
_BATCH_DOCUMENTS = 1000
_BATCH_BYTES = 16 * 1024 * 1024  # parts of a dead letter have up to 8 MiB each
_RAW = CodecOptions(document_class=RawBSONDocument)


def dump(client: MongoClient[Any], databases: Sequence[str], directory: Path) -> dict[str, int]:
    """Write each collection as `<database>/<collection>.bson`, with its indexes beside it.

    All is read at the moment of the first read, however long it takes: MongoDB keeps that for five minutes,
    or for its `minSnapshotHistoryWindowInSeconds`.

    Returns:
        The number of documents by collection.

    Raises:
        pymongo.errors.PyMongoError: it took longer than that, or MongoDB is out of reach.
    """
    counts = {}
    with client.start_session(snapshot=True) as session:
        for database in databases:
            for collection in client[database].list_collections():
                if not collection["name"].startswith("system."):
                    counts[f"{database}.{collection['name']}"] = _write(
                        client[database], collection, directory / database, session
                    )
    return counts


def _write(
    database: Database[Any], collection: Mapping[str, Any], folder: Path, session: ClientSession
) -> int:
    name = collection["name"]
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "options": collection["options"],
        "indexes": list(database[name].list_indexes()),
        "uuid": collection["info"]["uuid"].hex(),
        "collectionName": name,
        "type": "collection",
    }
    text = json_util.dumps(metadata, json_options=json_util.CANONICAL_JSON_OPTIONS)
    (folder / f"{name}{_METADATA}").write_text(text)
    with (folder / f"{name}.bson").open("wb") as file:
        count = 0
        for document in database.get_collection(name, codec_options=_RAW).find(session=session):
            file.write(document.raw)
            count += 1
    return count


def load(client: MongoClient[Any], directory: Path, names: Mapping[str, str]) -> dict[str, int]:
    """Make collections, documents and indexes anew.

    Args:
        client: of a replica set that lacks these databases.
        directory: as `dump` wrote it.
        names: of the databases, by the names that they had.

    Returns:
        The number of documents by collection, under the former names.

    Raises:
        pymongo.errors.PyMongoError: MongoDB refuses something, or is out of reach.
    """
    counts = {}
    for file in sorted(directory.glob(f"*/*{_METADATA}")):
        former, collection = file.parent.name, file.name.removesuffix(_METADATA)
        metadata = json_util.loads(file.read_text())
        database = client[names[former]]
        database.create_collection(collection, **metadata["options"])
        counts[f"{former}.{collection}"] = _fill(
            database.get_collection(collection, codec_options=_RAW), file.with_name(f"{collection}.bson")
        )
        if indexes := [index for index in metadata["indexes"] if index["name"] != "_id_"]:
            database.command("createIndexes", collection, indexes=indexes)
    return counts


def _fill(collection: Collection[Any], file: Path) -> int:
    count = 0
    with file.open("rb") as stream:
        for batch in _batches(decode_file_iter(stream, _RAW)):
            collection.insert_many(batch)
            count += len(batch)
    return count


def _batches(documents: Iterator[RawBSONDocument]) -> Iterator[list[RawBSONDocument]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document.raw)
        if len(batch) == _BATCH_DOCUMENTS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
