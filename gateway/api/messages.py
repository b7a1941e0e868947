"""POST /v1/messages: Anthropic's messages wire."""

from gateway.api.surface import SurfaceView
from providers.wire import anthropic_messages


class MessagesView(SurfaceView):
    wire = anthropic_messages.WIRE
    surface = "messages"
