"""The vendors that speak OpenAI's wires, as data: each name is an adapter that a provider row may choose.

One that is not here needs no code: a row with the adapter `openai_compatible`, its base URL and what differs in the
settings (see `providers.adapters.openai_compatible`). A row's own base URL and settings come before what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from providers.wire.base import Operation
from providers.wire.openai_chat import Dialect
from providers.wire.openai_embeddings import EmbedDialect
from providers.wire.openai_embeddings.dialect import VOYAGE as VOYAGE_EMBEDDINGS


class Vendor(Struct, frozen=True, kw_only=True):
    """What differs from a server that speaks OpenAI's chat wire at /chat/completions with a bearer token.

    Where `base_url` is empty the row must have one. `completions`, `embeddings`, `rerank`: their paths, empty where
    there is none; `voyage_rerank`: in Voyage's words. `models`: the path of the list of models; where it is empty there
    is none, and any answer of the server is a sign of health. `responses`: has it OpenAI's responses, too, and
    `responses_path` where. `media`: what it has of OpenAI's images, transcriptions and speech, at OpenAI's paths;
    `json_edits`: its edits of images take no forms. `is_local`: usually plain HTTP on a private address.
    """

    name: str
    base_url: str = ""
    dialect: Dialect = Dialect(cap_field="max_tokens", developer_role=False)
    embed_dialect: EmbedDialect = EmbedDialect()
    chat: str = "/chat/completions"
    completions: str = ""
    embeddings: str = ""
    rerank: str = ""
    voyage_rerank: bool = False
    responses: bool = False
    responses_path: str = "/responses"
    media: tuple[Operation, ...] = ()
    json_edits: bool = False
    models: str = "/models"
    is_local: bool = False
    tools: bool = True
    vision: bool = True
    documents: bool = False
    audio: bool = False
    reasoning: bool = True
    structured_output: bool = True


# What no preset says: the server that stands behind `openai_compatible`.
PLAIN = Vendor(
    name="openai_compatible",
    dialect=Dialect(cap_field="max_tokens"),
    completions="/completions",
    embeddings="/embeddings",
    rerank="/rerank",
    media=("images", "image_edits", "transcriptions", "translations", "speech"),
)

_ENGINE = Dialect(cap_field="max_tokens", developer_role=False, top_k=True)

_ALL = (
    Vendor(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        completions="/completions",
        dialect=Dialect(developer_role=False, reasoning_field="reasoning"),
        vision=False,
    ),
    Vendor(name="crusoe", base_url="https://managed-inference-api-proxy.crusoecloud.com/v1"),
    Vendor(
        name="deepinfra",
        base_url="https://api.deepinfra.com/v1/openai",
        completions="/completions",
        dialect=_ENGINE,
        embeddings="/embeddings",
        media=("images", "image_edits", "transcriptions", "translations", "speech"),
    ),
    Vendor(
        name="deepseek",
        base_url="https://api.deepseek.com",
        completions="/beta/completions",
        responses=True,
        vision=False,
    ),
    Vendor(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        completions="/completions",
        dialect=_ENGINE,
        embeddings="/embeddings",
        rerank="/rerank",
    ),
    Vendor(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        dialect=Dialect(developer_role=False, reasoning_field="reasoning"),
        media=("transcriptions", "translations", "speech"),
    ),
    Vendor(name="huggingface", base_url="https://router.huggingface.co/v1"),
    Vendor(
        name="llamacpp",
        base_url="http://127.0.0.1:8080/v1",
        completions="/completions",
        dialect=_ENGINE,
        embeddings="/embeddings",
        rerank="/rerank",
        audio=True,
        is_local=True,
    ),
    Vendor(
        name="lmstudio",
        base_url="http://127.0.0.1:1234/v1",
        completions="/completions",
        dialect=_ENGINE,
        embeddings="/embeddings",
        is_local=True,
    ),
    Vendor(name="moonshot", base_url="https://api.moonshot.ai/v1"),
    Vendor(name="nvidia", base_url="https://integrate.api.nvidia.com/v1", embeddings="/embeddings"),
    Vendor(
        name="ollama",
        base_url="http://127.0.0.1:11434/v1",
        completions="/completions",
        dialect=Dialect(cap_field="max_tokens", developer_role=False, reasoning_field="reasoning"),
        embeddings="/embeddings",
        is_local=True,
    ),
    Vendor(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        completions="/completions",
        dialect=Dialect(
            cap_field="max_tokens",
            top_k=True,
            cache_control=True,
            reasoning_field="reasoning_details",
            reasoning_object=True,
        ),
        embeddings="/embeddings",
        rerank="/rerank",
        responses=True,
        media=("transcriptions", "speech"),
        documents=True,
        audio=True,
    ),
    # Its chat was to end on 2026-09-27: https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview
    Vendor(
        name="perplexity",
        base_url="https://api.perplexity.ai",
        dialect=Dialect(cap_field="max_tokens", developer_role=False, reasoning_field="", top_k=True),
        embeddings="/v1/embeddings",
        models="/v1/models",
        responses=True,
        responses_path="/v1/responses",
        documents=True,
        tools=False,
    ),
    # Its host carries the account: https://ACCOUNT.snowflakecomputing.com/api/v2/cortex/v1
    Vendor(name="snowflake", dialect=Dialect(developer_role=False, reasoning_object=True), embeddings="/embeddings"),
    Vendor(
        name="together",
        base_url="https://api.together.xyz/v1",
        completions="/completions",
        dialect=Dialect(cap_field="max_tokens", developer_role=False, top_k=True, reasoning_field="reasoning"),
        embeddings="/embeddings",
        rerank="/rerank",
        media=("images", "transcriptions", "translations", "speech"),
    ),
    Vendor(
        name="vllm",
        base_url="http://127.0.0.1:8000/v1",
        completions="/completions",
        dialect=Dialect(developer_role=False, top_k=True),
        embeddings="/embeddings",
        rerank="/rerank",
        media=("transcriptions", "translations"),
        audio=True,
        is_local=True,
    ),
    # No chat: a path stands here for every vendor, and Voyage answers 404 at this one.
    Vendor(
        name="voyage",
        base_url="https://api.voyageai.com/v1",
        embed_dialect=VOYAGE_EMBEDDINGS,
        embeddings="/embeddings",
        rerank="/rerank",
        voyage_rerank=True,
        models="",
        tools=False,
        vision=False,
        reasoning=False,
        structured_output=False,
    ),
    Vendor(
        name="xai",
        base_url="https://api.x.ai/v1",
        completions="/completions",
        dialect=Dialect(),
        embeddings="/embeddings",
        responses=True,
        media=("images", "image_edits"),
        json_edits=True,
    ),
    Vendor(
        name="zai",
        base_url="https://api.z.ai/api/paas/v4",
        embeddings="/embeddings",
        media=("images",),
    ),
)
VENDORS: Mapping[str, Vendor] = {vendor.name: vendor for vendor in _ALL}
