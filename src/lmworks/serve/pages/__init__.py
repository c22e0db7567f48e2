"""The web pages. Each works without JavaScript; a page's script only makes it more pleasant."""

from fastapi import APIRouter

from lmworks.serve.pages import (
    chat_page,
    compare_page,
    documents_page,
    drift_page,
    evaluation_page,
    experiments_page,
    forms,
    log_page,
    overview_page,
    prompts_page,
    rank_page,
    review_page,
    system_page,
)
from lmworks.serve.service import Service


def router(service: Service) -> APIRouter:
    """All pages over one service."""
    pages = APIRouter(include_in_schema=False)
    for module in (
        *(chat_page, overview_page, documents_page, log_page, review_page, experiments_page, evaluation_page),
        *(compare_page, rank_page, prompts_page),
        *(drift_page, system_page, forms),
    ):
        pages.include_router(module.router(service))
    return pages
