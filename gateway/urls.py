from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from gateway.api import urls as api
from gateway.api.batches import BatchCancelView, BatchesView, BatchView
from gateway.api.chat import ChatCompletionsView
from gateway.api.embeddings import EmbeddingsView
from gateway.api.files import FileContentView, FilesView, FileView
from gateway.api.messages import MessagesView
from gateway.api.models import ModelsView
from gateway.api.rerank import RerankView
from gateway.api.responses import ResponsesView

# What services call, first: each is one look-up away.
relayed = [
    path("v1/chat/completions", ChatCompletionsView.as_view(), name="chat-completions"),
    path("v1/messages", MessagesView.as_view(), name="messages"),
    path("v1/responses", ResponsesView.as_view(), name="responses"),
    path("v1/embeddings", EmbeddingsView.as_view(), name="embeddings"),
    path("v1/rerank", RerankView.as_view(), name="rerank"),
    path("v1/models", ModelsView.as_view(), name="models"),
    path("v1/models/<path:name>", ModelsView.as_view(), name="model"),
    path("v1/files", FilesView.as_view(), name="files"),
    path("v1/files/<str:file_id>", FileView.as_view(), name="file"),
    path("v1/files/<str:file_id>/content", FileContentView.as_view(), name="file-content"),
    path("v1/batches", BatchesView.as_view(), name="batches"),
    path("v1/batches/<str:batch_id>", BatchView.as_view(), name="batch"),
    path("v1/batches/<str:batch_id>/cancel", BatchCancelView.as_view(), name="batch-cancel"),
]

urlpatterns = [
    *relayed,
    path("", include(api)),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/admin/"), name="home"),
]
