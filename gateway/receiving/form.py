"""Receives the multipart form of an upload and checks its files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request

from gateway.http.problems import Problem
from gateway.receiving.body import Pace, chunks, closing_if_refused
from gateway.receiving.checking import CheckedFile, FileLimits, check_file
from gateway.receiving.multipart import FILE_FIELD, Form, FormLimits, boundary_of, read_form
from gateway.services.admission import Admission, client_address


@dataclass(frozen=True)
class UploadForms:
    """Receives forms within the limits of this process."""

    admission: Admission
    pace: Pace
    limits: FileLimits

    @asynccontextmanager
    async def receive(self, request: Request, *, files: int) -> AsyncIterator[Form]:
        """The form of the request, with 1 to `files` files. Its slot and memory are reserved until the context ends.

        Raises Problem. A Problem that is raised before the body is complete closes the connection.
        """
        limits = FormLimits(self.limits.file_bytes, files)
        content_type = request.headers.get("content-type")
        with self.admission.admit(client_address(request)) as reservation:
            async with closing_if_refused(request):
                boundary_of(content_type)
                body = chunks(request, limit=limits.body_bytes, pace=self.pace)
                form = await read_form(body, content_type, limits, reservation)
            if not form.files:
                raise Problem("no_file", f"send the file in the multipart field {FILE_FIELD!r}")
            yield form

    async def check_each(self, form: Form) -> list[CheckedFile | Problem]:
        """For each file of the form, in order: the checked file, or the Problem that it has."""
        results: list[CheckedFile | Problem] = []
        for file in form.files:
            try:
                results.append(await check_file(file, self.limits))
            except Problem as problem:
                problem.extra.setdefault("file_name", file.name)
                results.append(problem)
        return results

    async def check_all(self, form: Form) -> list[CheckedFile]:
        """The checked files of the form, in order. Raises the Problem of the first file that has one."""
        files = await self.check_each(form)
        for file in files:
            if isinstance(file, Problem):
                raise file
        return [file for file in files if isinstance(file, CheckedFile)]

    async def check_only(self, form: Form) -> CheckedFile:
        """The checked file of a form that has one. Raises its Problem."""
        return await check_file(form.files[0], self.limits)
