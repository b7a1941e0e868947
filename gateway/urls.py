from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from gateway.api import urls as api
from gateway.api.audio import SpeechView, TranscriptionsView, TranslationsView
from gateway.api.batches import BatchCancelView, BatchesView, BatchView
from gateway.api.chat import ChatCompletionsView
from gateway.api.cohere import CohereChatView, CohereEmbedView, CohereRerankView
from gateway.api.completions import CompletionsView
from gateway.api.count_tokens import CountTokensView
from gateway.api.embeddings import EmbeddingsView
from gateway.api.files import FileContentView, FilesView, FileView
from gateway.api.gemini import METHODS, GeminiView, NoGeminiMethodView
from gateway.api.images import ImageEditsView, ImageGenerationsView
from gateway.api.messages import MessagesView
from gateway.api.models import GoogleModelsView, ModelsView
from gateway.api.rerank import RerankView
from gateway.api.responses import ResponsesView

handler404 = "gateway.api.not_found.not_found"

GEMINI_PATH = rf"^v1(?:beta|alpha)?/models/(?P<model>.+):(?P<method>{'|'.join(METHODS)})$"

# What services call, first: each is one look-up away.
relayed = [
    path("v1/chat/completions", ChatCompletionsView.as_view(), name="chat-completions"),
    path("v1/messages", MessagesView.as_view(), name="messages"),
    path("v1/messages/count_tokens", CountTokensView.as_view(), name="count-tokens"),
    path("v1/responses", ResponsesView.as_view(), name="responses"),
    path("v1/completions", CompletionsView.as_view(), name="completions"),
    path("v1/embeddings", EmbeddingsView.as_view(), name="embeddings"),
    path("v1/rerank", RerankView.as_view(), name="rerank"),
    path("v2/chat", CohereChatView.as_view(), name="cohere-chat"),
    path("v2/embed", CohereEmbedView.as_view(), name="cohere-embed"),
    path("v2/rerank", CohereRerankView.as_view(), name="cohere-rerank"),
    path("v1/images/generations", ImageGenerationsView.as_view(), name="image-generations"),
    path("v1/images/edits", ImageEditsView.as_view(), name="image-edits"),
    path("v1/audio/transcriptions", TranscriptionsView.as_view(), name="transcriptions"),
    path("v1/audio/translations", TranslationsView.as_view(), name="translations"),
    path("v1/audio/speech", SpeechView.as_view(), name="speech"),
    # A model's name may hold slashes and colons of its own.
    re_path(GEMINI_PATH, GeminiView.as_view(), name="gemini"),
    path("v1/models", ModelsView.as_view(), name="models"),
    path("v1/models/<path:name>", ModelsView.as_view(), name="model"),
    path("v1/files", FilesView.as_view(), name="files"),
    path("v1/files/<str:file_id>", FileView.as_view(), name="file"),
    path("v1/files/<str:file_id>/content", FileContentView.as_view(), name="file-content"),
    path("v1/batches", BatchesView.as_view(), name="batches"),
    path("v1/batches/<str:batch_id>", BatchView.as_view(), name="batch"),
    path("v1/batches/<str:batch_id>/cancel", BatchCancelView.as_view(), name="batch-cancel"),
    path("v1beta/models", GoogleModelsView.as_view(), name="google-models"),
    path("v1beta/models/<path:name>", GoogleModelsView.as_view(), name="google-model"),
    re_path(r"^v1(?:beta|alpha)/", NoGeminiMethodView.as_view(), name="google-nothing"),
]

urlpatterns = [
    *relayed,
    path("", include(api)),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/admin/"), name="home"),
]
