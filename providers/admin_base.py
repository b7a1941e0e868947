"""The one place that names the admin's theme: every admin class derives from these, so that it could be removed.

What holds for every page is here too: lists do not count the whole table twice, and nothing that the books point at
is deleted by a bulk action.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.forms import ModelForm
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as ThemedModelAdmin
    from django.contrib.admin import TabularInline as ThemedTabularInline
    from django.contrib.admin.widgets import AdminSplitDateTime as DateTimeWidget
    from django.contrib.admin.widgets import AdminTextareaWidget as TextareaWidget
    from django.contrib.admin.widgets import AdminTextInputWidget as TextWidget
    from django.forms import CheckboxInput as CheckboxWidget
    from django.forms import CheckboxSelectMultiple as CheckboxesWidget
    from django.forms import PasswordInput as PasswordWidget
    from django.forms import Select as SelectWidget

    class DeskForm(ModelForm[Any]):
        pass

    class DeskFormSet(BaseInlineFormSet[Any, Any, Any]):
        pass

    class DeskModelAdmin(ThemedModelAdmin[Any]):
        pass

    class DeskTabularInline(ThemedTabularInline[Any, Any]):
        pass
else:
    DeskForm, DeskFormSet = ModelForm, BaseInlineFormSet

    from unfold.admin import ModelAdmin as DeskModelAdmin
    from unfold.admin import TabularInline as DeskTabularInline
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as CheckboxesWidget
    from unfold.widgets import UnfoldAdminPasswordWidget as PasswordWidget
    from unfold.widgets import UnfoldAdminSelectWidget as SelectWidget
    from unfold.widgets import UnfoldAdminSplitDateTimeWidget as DateTimeWidget
    from unfold.widgets import UnfoldAdminTextareaWidget as TextareaWidget
    from unfold.widgets import UnfoldAdminTextInputWidget as TextWidget
    from unfold.widgets import UnfoldBooleanWidget as CheckboxWidget

__all__ = [
    "CheckboxWidget",
    "CheckboxesWidget",
    "DateTimeWidget",
    "DeskAdmin",
    "DeskForm",
    "DeskFormSet",
    "DeskInline",
    "PasswordWidget",
    "ReadOnlyAdmin",
    "ReadOnlyInline",
    "SelectWidget",
    "TextWidget",
    "TextareaWidget",
    "exact",
    "link",
    "number",
    "table",
]


class DeskAdmin(DeskModelAdmin):
    """A page that people may edit. `undeletable`: the books point at such rows; they are switched off instead."""

    undeletable = False
    list_per_page = 50
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not self.undeletable and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class ReadOnlyAdmin(DeskAdmin):
    """A page that only shows: nobody adds, changes or deletes here, whatever their permissions."""

    undeletable = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DeskInline(DeskTabularInline):
    extra = 0


class ReadOnlyInline(DeskInline):
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def exact(amount: Decimal | None) -> str:
    """An amount as exact decimal text without needless zeros: '0.06'. Never a float, never an exponent."""
    if amount is None:
        return ""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(text: object) -> SafeString:
    """A number, right-aligned with digits of one width."""
    return format_html('<span style="display:block;text-align:right;font-variant-numeric:tabular-nums">{}</span>', text)


def link(url: str, label: object) -> SafeString:
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, label)


def table(*, head: tuple[str, ...], rows: list[tuple[object, ...]], numbers_from: int = 1) -> SafeString:
    """A small table; columns from `numbers_from` on are numbers."""
    cell = '<td style="padding:2px 16px 2px 0;text-align:{}">{}</td>'

    def align(index: int) -> str:
        return "right" if index >= numbers_from else "left"

    heads = format_html_join(
        "",
        '<th style="padding:2px 16px 2px 0;text-align:{}">{}</th>',
        ((align(index), name) for index, name in enumerate(head)),
    )
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        ((format_html_join("", cell, ((align(index), value) for index, value in enumerate(row))),) for row in rows),
    )
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", heads, body)
