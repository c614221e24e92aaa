"""Fills Keystone: regions, endpoints, projects, roles, users. Repeatable. Prints what tests want to know, as JSON."""
import json
import sys

from keystoneauth1.identity import v3
from keystoneauth1.session import Session

keystone, password, barbican, service_roles, suite, database, *regions = sys.argv[1:]
regions = dict(region.split("|") for region in regions)
session = Session(auth=v3.Password(keystone, username="admin", password=password, project_name="admin",
                                   user_domain_name="Default", project_domain_name="Default"))


def call(method, path, **json_body):
    answer = session.request(keystone + path, method, json=json_body or None)
    return answer.json() if answer.content else {}


def ensure(kind, name, **fields):
    """The id of the named thing, which is made if it is not there."""
    for thing in call("GET", f"/{kind}s?name={name}")[kind + "s"]:
        return thing["id"]
    return call("POST", f"/{kind}s", **{kind: dict(name=name, **fields)})[kind]["id"]


def user(name, project, *roles):
    """A user with roles in its project; a role written NAME@system is one on the whole system."""
    user_id = ensure("user", name, password=password, domain_id="default")
    for role in roles:
        role, _, scope = role.partition("@")
        where = "system" if scope == "system" else "projects/" + projects[project]
        call("PUT", f"/{where}/users/{user_id}/roles/{ensure('role', role)}")
    return dict(name=name, id=user_id, password=password, domain="Default",
                project=project, project_id=projects[project])


projects = {name: ensure("project", name, domain_id="default")
            for name in ("admin", "service", "demo", "alt", "audited", "off")}
member = ("member", "creator")  # creator: may store secrets at Barbican
users = [
    user("admin", "admin", "admin", *member),
    user("demo", "demo", *member),
    user("alt", "alt", *member),
    user("auditor", "audited", *member),
    user("off", "off", *member),
    user("glance", "service", "admin", "service"),
    user("barbican", "service", "admin", "service"),
    user("countersign", "service", *service_roles.split()),
]

known = {region["id"] for region in call("GET", "/regions")["regions"]}
for region in regions.keys() - known:
    call("POST", "/regions", region={"id": region})

present = {(e["service_id"], e["region"], e["interface"]): e
           for e in call("GET", "/endpoints")["endpoints"]}
for kind, name in (("image", "glance"), ("key-manager", "barbican"), ("identity", "keystone")):
    service = ensure("service", name, type=kind)
    for region, glance in regions.items():
        url = {"image": glance, "key-manager": barbican, "identity": keystone}[kind]
        for interface in ("public", "internal", "admin"):
            endpoint = present.get((service, region, interface))
            if endpoint is None:
                call("POST", "/endpoints", endpoint=dict(service_id=service, region_id=region,
                                                         interface=interface, url=url))
            elif endpoint["url"] != url:
                call("PATCH", f"/endpoints/{endpoint['id']}", endpoint={"url": url})

print(json.dumps(dict(suite=suite, database=database, keystone=keystone, barbican=barbican, regions=regions,
                      projects=projects, users={u["name"]: u for u in users}), indent=2))
