"""The messages of the data plane, as far as they are played: https://github.com/pinecone-io/pinecone-api.

From 2026-07/db_data_2026-07.proto, by hand: the client ships no generated code. This is protobuf's own reading of the
frames that the product reads and writes as octets.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "pinecone_stand_in"

DECLARED: dict[str, tuple[tuple[str, int, str], ...]] = {
    "SparseValues": (("indices", 1, "uint32*"), ("values", 2, "float*")),
    "Vector": (
        ("id", 1, "string"),
        ("values", 2, "float*"),
        ("sparse_values", 4, "SparseValues"),
        ("metadata", 3, "google.protobuf.Struct"),
    ),
    "VectorsEntry": (("key", 1, "string"), ("value", 2, "Vector")),
    "Usage": (("read_units", 1, "uint32?"), ("egress_bytes", 2, "uint32?")),
    "UpsertRequest": (("vectors", 1, "Vector*"), ("namespace", 2, "string")),
    "UpsertResponse": (("upserted_count", 1, "uint32"),),
    "FetchRequest": (("ids", 1, "string*"), ("namespace", 2, "string")),
    "FetchResponse": (("vectors", 1, "VectorsEntry*"), ("namespace", 2, "string"), ("usage", 3, "Usage")),
    "ListRequest": (
        ("prefix", 1, "string?"),
        ("limit", 2, "uint32?"),
        ("pagination_token", 3, "string?"),
        ("namespace", 4, "string"),
    ),
    "ListItem": (("id", 1, "string"),),
    "Pagination": (("next", 1, "string"),),
    "ListResponse": (
        ("vectors", 1, "ListItem*"),
        ("pagination", 2, "Pagination"),
        ("namespace", 3, "string"),
        ("usage", 4, "Usage"),
    ),
    "DescribeIndexStatsRequest": (("filter", 1, "google.protobuf.Struct"),),
    "DescribeIndexStatsResponse": (("dimension", 2, "uint32?"), ("total_vector_count", 4, "uint32")),
}
"""Message -> name, number and type of each field; "*" is repeated, "?" optional. A map is its entries."""


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    for name, fields in DECLARED.items():
        message = file.message_type.add(name=name)
        for field_name, number, words in fields:
            kind = words.rstrip("*?")
            label = _FIELD.LABEL_REPEATED if words.endswith("*") else _FIELD.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind[0].isupper() or "." in kind:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{kind}" if "." in kind else f".{_PACKAGE}.{kind}"
            else:
                field.type = _FIELD.Type.Value(f"TYPE_{kind.upper()}")
            if words.endswith("?"):
                field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field_name}")
    pool = descriptor_pool.Default()
    made = pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(made.message_types_by_name[name]) for name in DECLARED}


MESSAGES = _made()
"""Message classes by name."""
