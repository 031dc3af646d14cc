"""Image in by HTTP, mask out: a page for people and an API for programs, around one network.

Everything here but `limits` needs the extra ``serve`` (FastAPI, uvicorn), so only the body of the command imports it.
"""
