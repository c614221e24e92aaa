# Countersign in an image of its own: one static binary, no shell, no root. `make image` builds it; two builds of one commit
# have the same digest.
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
ARG VERSION=devel
ENV CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-trimpath -buildvcs=false '-ldflags=-s -w -X=main.version=${VERSION}'"
WORKDIR /src
COPY go.mod go.sum ./
# Without a shell, so that an image with Go and nothing else will do.
RUN ["/usr/local/go/bin/go", "mod", "download"]
COPY . .
RUN ["/usr/local/go/bin/go", "build", "-o", "/countersign", "./cmd/countersign"]

FROM ${BASE_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /countersign /countersign
USER 65532:65532
EXPOSE 9292 9293
ENTRYPOINT ["/countersign"]
CMD ["serve"]
