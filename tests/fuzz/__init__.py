"""Coverage-guided fuzzing of the functions that parse bytes of clients, of decoders, and of Kafka.

Each harness is a module with `check(data)`, which raises if the property in its docstring does not hold, `seeds()`, the
first inputs, and `mutate(data, random)`, which changes an input where a change of single bytes would be refused early.
`python -m tests.fuzz HARNESS` fuzzes one of them, `python -m tests.fuzz.campaign` all.
"""

HARNESSES = ("cursors", "image_header", "multipart_form", "records", "render_answer")
