"""Users, groups and teams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.urls import reverse

from ledger.models import Team
from providers.admin_base import DeskAdmin, link

if TYPE_CHECKING:
    AnyUserAdmin = DjangoUserAdmin[User]
else:
    AnyUserAdmin = DjangoUserAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(AnyUserAdmin, DeskAdmin):
    """Django's own page with the desk's looks; users in the books are deactivated, never deleted."""

    undeletable = True
    list_display = ["username", "email", "is_active", "is_staff", "keys"]

    @admin.display(description="API keys")
    def keys(self, user: User) -> str:
        return link(f"{reverse('admin:ledger_apikey_changelist')}?user__id__exact={user.pk}", "keys")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, DeskAdmin):
    pass


@admin.register(Team)
class TeamAdmin(DeskAdmin):
    undeletable = True
    list_display = ["name", "created_at", "keys"]
    search_fields = ["name"]

    @admin.display(description="API keys")
    def keys(self, team: Team) -> str:
        return link(f"{reverse('admin:ledger_apikey_changelist')}?team__id__exact={team.pk}", "keys")
