from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from gateway.api import urls as api
from gateway.api.chat import ChatCompletionsView
from gateway.api.embeddings import EmbeddingsView
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
]

urlpatterns = [
    *relayed,
    path("", include(api)),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/admin/"), name="home"),
]
