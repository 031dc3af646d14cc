# docker build -t deeplabctl .
# docker run --rm --init -p 127.0.0.1:8000:8000 -v "$PWD/runs/mine:/weights:ro" deeplabctl
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deeplabctl deeplabctl
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# What infer and serve need. The rest is for training: TensorFlow alone takes 1.9 GB.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        more = project['optional-dependencies']; \
        needed = [*project['dependencies'], *more['serve']]; \
        print(*(each for each in needed if not each.startswith(('tensorflow', 'keras', 'matplotlib'))), sep='\n')" \
    > /wheels/requirements.txt

FROM python:3.12-slim
COPY constraints.txt /tmp/
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt --requirement /tmp/wheels/requirements.txt \
    && pip install --no-cache-dir --no-deps /tmp/wheels/*.whl \
    && rm -r /tmp/constraints.txt /tmp/wheels
RUN useradd --create-home --uid 1000 app
USER app
WORKDIR /home/app
# A run directory, a folder with one weight file or export, or a file; the kernels are compiled at the first start and
# kept in .cache.
ENV DEEPLABCTL_WEIGHTS=/weights
EXPOSE 8000
HEALTHCHECK --start-period=90s --interval=30s --timeout=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["deeplabctl"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
