"""POST /v1/messages/count_tokens: Anthropic's counting of tokens, of a model of any provider that can count."""

from gateway.api.surface import SurfaceView
from providers.wire import anthropic_messages


class CountTokensView(SurfaceView):
    wire = anthropic_messages.COUNT
    surface = "count_tokens"
