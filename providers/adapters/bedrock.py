"""AWS Bedrock, by its Converse API or in a model's own words. https://docs.aws.amazon.com/bedrock/latest/APIReference/"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from providers.adapters.aws import authoriser, read_access_key
from providers.adapters.base import (
    HEALTH_TIMEOUT_S,
    Capabilities,
    HttpAdapter,
    Operation,
    ProviderConfig,
    decoded_object,
    text_setting,
)
from providers.credentials import CredentialUnusable
from providers.errors import InvalidRequest, ModelNotFound
from providers.http import Client, Deadlines
from providers.scrub import MASK
from providers.wire import bedrock_converse, titan_embed
from providers.wire.base import Wire
from providers.wire.bedrock_invoke import AnthropicOnBedrock

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
# Of each API: the action for a whole answer, and for a stream.
_CONVERSE, _INVOKE = ("converse", "converse-stream"), ("invoke", "invoke-with-response-stream")
_APIS = {"converse": _CONVERSE, "invoke": _INVOKE}
_MODELS, _PROFILES = "/foundation-models", "/inference-profiles"
# Above what anyone has, so that a server whose pages never end does not keep us for ever.
_MAX_PAGES = 50


class Bedrock(HttpAdapter):
    """The credential is an API key for Bedrock; or an access key, as ID:SECRET, ID:SECRET:TOKEN or JSON; or nothing,
    for what AWS's own chain finds. Settings: `region` (required unless the base URL names it); `profile`, of that
    chain; `control_url`, where the models are listed if that is not the region's usual address; `api`: "converse" (the
    usual), or "invoke" for a row of Anthropic's models alone, whose messages then pass through as they are; `beta`, the
    anthropic-beta features to turn on there, with commas between them.

    A model's upstream name is a model id, an inference profile or an ARN. Embeddings are those of Amazon Titan.
    """

    wire: Wire = bedrock_converse.WIRE
    wires: Mapping[Operation, Wire] = {"embeddings": titan_embed.WIRE, "count_tokens": bedrock_converse.COUNT}
    capabilities = Capabilities(documents=True, audio=True, embeddings=True, count_tokens=True)

    def __init__(self, config: ProviderConfig) -> None:
        region = _region(config)
        self.base_url = f"https://bedrock-runtime.{region}.amazonaws.com"  # type: ignore[misc]  # each region its own
        self._authorise = authoriser(
            config.credential, provider=config.name, region=region, profile=text_setting(config, "profile")
        )
        self._actions = _actions(config)
        if self._actions is _INVOKE:
            self.wire = AnthropicOnBedrock(betas=_betas(config))
        super().__init__(config)
        self._control_url = _control_url(config, region)

    @cached_property
    def _control(self) -> Client:
        """Made when models are first listed: a network may let through calls of models and nothing else."""
        return Client(
            provider=self.name,
            base_url=self._control_url,
            headers={},
            allow_plain_http=self.config.allow_plain_http,
            allow_private_address=self.config.allow_private_address,
            idle_connections=1,
            ca_bundle=text_setting(self.config, "ca_bundle"),
        )

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return {}

    def request_headers(self, *, method: str, path: str, body: bytes) -> dict[str, str]:
        return self._authorise(method, self.client.base_url + path, body)

    def path(self, *, operation: Operation, model: str, stream: bool) -> str | None:
        """The model stands in the path, and so does whether its answer streams."""
        action = {"chat": self._actions[stream], "embeddings": "invoke", "count_tokens": "count-tokens"}.get(operation)
        return f"/model/{quote(model, safe='')}/{action}" if action else None

    def list_models(self) -> tuple[str, ...]:
        """The ids of the region's models and inference profiles, sorted. Raises ProviderError."""
        found = set(_texts(self._get(_MODELS), "modelSummaries", "modelId"))
        after = ""
        for _ in range(_MAX_PAGES):
            page = self._get(f"{_PROFILES}?maxResults=1000{after}")
            found.update(_texts(page, "inferenceProfileSummaries", "inferenceProfileId"))
            token = page.get("nextToken")
            if not isinstance(token, str) or not token:
                break
            after = f"&nextToken={quote(token, safe='')}"
        return tuple(sorted(found))

    def validate_model(self, name: str) -> bool:
        """Is `name` a model or an inference profile of the region? Raises ProviderError when it cannot say."""
        for path in (_MODELS, _PROFILES):
            try:
                self._get(f"{path}/{quote(name, safe='')}")
            except (ModelNotFound, InvalidRequest):
                continue
            return True
        return False

    def close(self) -> None:
        super().close()
        if "_control" in self.__dict__:
            self._control.close()

    def _ask_for_models(self, timeout_s: float) -> bytes:
        self._get(_MODELS, timeout_s=timeout_s)
        return b""

    def _get(self, path: str, *, timeout_s: float = HEALTH_TIMEOUT_S) -> dict[str, Any]:
        """Models are listed at an address of its own."""
        deadlines = Deadlines(connect_s=min(self.config.connect_timeout_s, timeout_s), total_s=timeout_s)
        headers = self._authorise("GET", self._control.base_url + path, b"")
        exchange = self._checked(self._control.get(path=path, deadlines=deadlines, headers=headers), stream=False)
        return decoded_object(exchange.body(), provider=self.name)

    def _without_credential(self, text: str) -> str:
        """AWS quotes what was signed: each part of an access key is masked by itself."""
        key = read_access_key(self.config.credential, provider=self.name)
        for secret in (key.aws_access_key_id, key.aws_secret_access_key, key.aws_session_token) if key else ():
            text = text.replace(secret, MASK) if secret else text
        return super()._without_credential(text)


def _region(config: ProviderConfig) -> str:
    """The region of the settings or of the base URL; '' for a base URL that names none."""
    region = text_setting(config, "region")
    if region and not _REGION.fullmatch(region):
        raise CredentialUnusable(f"The setting 'region' of provider {config.name!r} is no AWS region: {region!r}.")
    if region or not config.base_url:
        if not region:
            raise CredentialUnusable(f"The provider {config.name!r} needs the setting 'region', such as us-east-1.")
        return region
    host = config.base_url.partition("//")[2].partition("/")[0]
    found = _REGION.search(host) if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else None
    return found[0] if found else ""


def _actions(config: ProviderConfig) -> tuple[str, str]:
    api = text_setting(config, "api", "converse")
    if api not in _APIS:
        raise CredentialUnusable(f"The setting 'api' of provider {config.name!r} must be one of {', '.join(_APIS)}.")
    return _APIS[api]


def _betas(config: ProviderConfig) -> tuple[str, ...]:
    return tuple(name.strip() for name in text_setting(config, "beta").split(",") if name.strip())


def _control_url(config: ProviderConfig, region: str) -> str:
    """Where models are listed: as set, beside the usual address, or else where everything else is."""
    usual = f"https://bedrock.{region}.amazonaws.com"
    beside = config.base_url.replace("://bedrock-runtime", "://bedrock", 1)
    return text_setting(config, "control_url") or beside or usual


def _texts(page: dict[str, Any], field: str, key: str) -> Iterator[str]:
    entries = page.get(field)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            yield entry[key]
