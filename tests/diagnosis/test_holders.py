"""Who may be stopped, and how: decided from made-up processes, one for each way of holding a port."""

import pytest

from tcpdoctor.diagnosis.holders import tell_stop, who_may_be_stopped
from tcpdoctor.diagnosis.stopping import Asker, Stop, name_place
from tcpdoctor.kernel.cgroups import Container, place_of
from tcpdoctor.kernel.packet_rules import Goal, Redirect
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Holder
from tcpdoctor.kernel.standing import Kin, Standing

ID = "0123456789ab" + "c" * 52
INIT = Kin(1, "systemd", 0, 0.5, ("/sbin/init",), 0, "/init.scope")
NGINX = ("nginx: master process /usr/sbin/nginx",)


def kin(pid: int, line: str | tuple[str, ...], cgroup: str = "/", *, name=None, parent=1, uid=0) -> Kin:
    arguments = tuple(line.split()) if isinstance(line, str) else line
    name = name or arguments[0].rpartition("/")[2][:15]
    return Kin(pid, name, parent, 100.0 + pid, arguments, uid, place_of(cgroup).unit_path)


def stop_of(holder: Kin, cgroup: str = "/", *ancestors: Kin, asker=None, **changes) -> Stop:
    """Ask about one holder, whose unit has it and those of its ancestors that are in the unit."""
    place = place_of(cgroup)
    holder = holder._replace(unit_path=place.unit_path)
    members = sorted(
        {k for k in (holder, *ancestors) if k.unit_path == place.unit_path}, key=lambda k: k.started
    )
    standing = Standing(
        holder,
        1_700_000_000.0,
        place,
        (*ancestors, INIT),
        innermost_pid=holder.pid,
        unit_members=tuple(members),
    )._replace(**changes)
    found = who_may_be_stopped(
        (Holder(holder.pid, holder.name, 3, holder.uid),), {holder.pid: standing}, asker or Asker(0, 8080)
    )
    assert found is not None
    return found


def test_a_unit_is_named_where_the_holder_is_its_main_process():
    found = stop_of(kin(811, NGINX, name="nginx"), "/system.slice/nginx.service")
    assert (found.way, found.commands, found.restart) == (
        "service",
        ("systemctl stop nginx.service",),
        "systemctl restart nginx.service",
    )


@pytest.mark.parametrize(
    ("main", "holder", "unit_is_named"),
    [
        ("/usr/sbin/haproxy -Ws -f /etc/haproxy.cfg", "/usr/sbin/haproxy -Ws -f /etc/haproxy.cfg", True),
        (("nginx: master process nginx",), ("nginx: worker process",), True),
        ("/bin/sh /opt/start.sh", "/usr/bin/java -jar app.jar", True),
        ("/usr/bin/python3 /opt/app.py", "/usr/bin/python3 /opt/app.py", True),
        ("/usr/bin/python3 /opt/runner.py", "/usr/bin/python3 /opt/app.py", False),
        ("/usr/bin/runner", "/opt/app", False),
        ("/usr/sbin/cron -f", "/opt/app", False),
    ],
)
def test_a_child_of_the_main_process_is_the_unit_only_where_it_is_the_same_program(
    main, holder, unit_is_named
):
    cgroup = "/system.slice/web.service"
    parent = kin(10, main, cgroup)
    found = stop_of(kin(20, holder, cgroup, parent=10), cgroup, parent)
    assert (found.commands == ("systemctl stop web.service",)) is unit_is_named
    if not unit_is_named:
        assert found.commands == ("kill 20",)
        assert "systemctl stop web.service" in found.avoid[0]


def test_what_a_daemon_left_behind_in_a_unit_is_not_the_unit():
    """Its parent is process 1, outside the unit, but cron was there before it."""
    cgroup = "/system.slice/cron.service"
    cron, orphan = kin(10, "/usr/sbin/cron -f", cgroup), kin(20, "/opt/server", cgroup)
    found = stop_of(orphan, cgroup, unit_members=(cron, orphan))
    assert found.commands == ("kill 20",)
    assert "cron.service" in found.avoid[0]


def test_a_shell_that_starts_two_servers_is_not_stopped_for_one_of_them():
    cgroup = "/system.slice/both.service"
    shell = kin(10, "/bin/sh /opt/both.sh", cgroup)
    one, two = kin(20, "/opt/one", cgroup, parent=10), kin(21, "/opt/two", cgroup, parent=10)
    found = stop_of(one, cgroup, shell, unit_members=(shell, one, two))
    assert found.commands == ("kill 20",)


def test_a_users_unit_is_stopped_by_that_users_manager():
    cgroup = "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"
    mine = kin(20, "/opt/web", cgroup, uid=1000)
    assert stop_of(mine, cgroup).commands == ("systemctl --user -M 1000@ stop web.service",)
    assert stop_of(mine, cgroup, asker=Asker(1000)).commands == ("systemctl --user stop web.service",)
    assert stop_of(mine, cgroup).way == "user-service"


def test_a_session_is_no_unit_to_stop():
    cgroup = "/user.slice/user-1000.slice/session-3.scope"
    found = stop_of(kin(20, "python3 -m http.server", cgroup, uid=1000), cgroup)
    assert (found.way, found.commands) == ("process", ("kill 20",))


def test_a_name_that_a_shell_would_read_is_quoted():
    cgroup = r"/system.slice/system-postgresql.slice/postgresql@15\x2dmain.service"
    found = stop_of(kin(20, "/usr/bin/postgres", cgroup), cgroup)
    assert found.commands == (r"systemctl stop 'postgresql@15\x2dmain.service'",)


PROXY = "/usr/bin/docker-proxy -proto tcp -host-port 8080 -container-ip 172.17.0.2 -container-port 80"
HELPERS = {
    "docker-proxy": (PROXY, "/system.slice/docker.service", "docker stop CONTAINER"),
    "rootless docker-proxy": (
        PROXY.replace("docker-proxy", "rootlesskit-docker-proxy"),
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker.service",
        "docker stop CONTAINER",
    ),
    "conmon of podman": (
        f"/usr/bin/conmon -c {ID} -u {ID} -r /usr/bin/crun -n web --exit-dir /run/libpod/exits",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        "podman stop web",
    ),
    "conmon without a name": (
        "/usr/bin/conmon",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        "podman stop 0123456789ab",
    ),
    "conmon of a pod of podman": (
        f"/usr/bin/conmon -c {ID} -u {ID} -r /usr/bin/crun -n 47240483a133-infra",
        "/system.slice/cron.service",
        "podman pod stop 47240483a133",
    ),
    "conmon of a pod of podman with systemd": (
        f"/usr/bin/conmon -c {ID} -n infra",
        f"/machine.slice/machine-libpod_pod_{ID}.slice/libpod-conmon-{ID}.scope",
        "podman pod stop 0123456789ab",
    ),
    "conmon of CRI-O": (
        f"/usr/bin/conmon -b /run/c -c {ID} --exit-dir /var/run/crio/exits -n k8s_web_web-1_default_u_0",
        f"/kubepods.slice/crio-conmon-{ID}.scope",
        "crictl stop 0123456789ab",
    ),
    "conmon of a quadlet": (
        f"/usr/bin/conmon -c {ID} -n systemd-web",
        "/system.slice/web.service/supervisor",
        "systemctl stop web.service",
    ),
    "conmon in cron's unit": (
        f"/usr/bin/conmon -c {ID} -n web",
        "/system.slice/cron.service",
        "podman stop web",
    ),
    "rootlessport": ("rootlessport", "/user.slice/user-0.slice/session-3.scope", "podman stop CONTAINER"),
    "slirp4netns": (
        "/usr/bin/slirp4netns -c -r 3 4242 tap0",
        "/system.slice/web.service",
        "podman stop CONTAINER",
    ),
    "pasta": (
        "/usr/bin/pasta --config-net -t 8080-8080:80-80 --netns /run/netns/n",
        "/user.slice/a.scope",
        "podman stop CONTAINER",
    ),
    "containerd-shim": (
        f"/usr/bin/containerd-shim-runc-v2 -namespace moby -id {ID} -address /run/containerd/containerd.sock",
        "/system.slice/containerd.service",
        "docker stop 0123456789ab",
    ),
    "containerd-shim of Kubernetes": (
        f"/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id {ID}",
        "/system.slice/containerd.service",
        "crictl stop 0123456789ab",
    ),
    "session of sshd": (("sshd: ada@pts/0",), "/system.slice/ssh.service", "kill 20"),
    "session of a newer sshd": (
        ("sshd-session: ada@notty",),
        "/user.slice/user-1000.slice/session-3.scope",
        "kill 20",
    ),
    "dockerd": ("/usr/bin/dockerd -H fd://", "/system.slice/docker.service", "docker stop CONTAINER"),
    "virtual network": (
        "/usr/sbin/dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/default.conf --leasefile-ro",
        "/system.slice/libvirtd.service",
        "virsh net-destroy default",
    ),
    "proxy device": (
        "/snap/lxd/current/bin/lxd forkproxy -- 100 3",
        "/system.slice/snap.lxd.daemon.service",
        "lxc config device remove INSTANCE DEVICE",
    ),
}


@pytest.mark.parametrize(("line", "cgroup", "command"), HELPERS.values(), ids=HELPERS)
def test_a_helper_is_known_for_what_it_serves(line, cgroup, command):
    found = stop_of(kin(20, line, cgroup), cgroup)
    assert found.commands == (command,)
    assert bool(found.lookup) is any(word in command for word in ("CONTAINER", "INSTANCE"))
    unit = place_of(cgroup).unit
    assert unit in command or not any(unit in text for text in found.commands)


def test_a_published_port_says_which_container_and_which_of_its_ports():
    box = Container("docker", ID)
    found = stop_of(kin(20, PROXY), "/system.slice/docker.service", serves=box)
    assert found.commands == ("docker stop 0123456789ab",)
    assert found.lookup == ()
    assert found.role == "publishes port 80 of Docker container 0123456789ab (172.17.0.2)"
    assert (found.container, found.container_port) == (box, 80)
    assert "docker.service" in found.avoid[0]


def test_a_port_of_pasta_is_told_as_the_containers():
    found = stop_of(kin(20, "pasta -t 8000-8100:80-180 --netns /x", uid=1000))
    assert found.container_port == 160
    assert found.commands == ("sudo -u '#1000' XDG_RUNTIME_DIR=/run/user/1000 podman stop CONTAINER",)


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("/usr/sbin/sshd -D", "ssh.service"),
        (("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",), "sshd.service"),
        ("/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml", "kubelet.service"),
        ("/usr/bin/containerd", "containerd.service"),
        ("/usr/bin/crio", "crio.service"),
        ("/lib/systemd/systemd-resolved", "systemd-resolved.service"),
    ],
)
def test_what_others_depend_on_is_left_alone(line, unit):
    cgroup = f"/system.slice/{unit}"
    found = stop_of(kin(20, line, cgroup), cgroup)
    assert (found.way, found.commands) == ("not-to-be-stopped", ())
    assert found.avoid[0].startswith(f"systemctl stop {unit}: ")
    assert "another port" in found.note


SUPERVISORS = {
    "supervisord": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {"SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_GROUP_NAME": "web"},
        "supervisorctl stop web",
    ),
    "supervisord at a socket of its own": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {"SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_SERVER_URL": "unix:///srv/app/supervisor.sock"},
        "supervisorctl -s unix:///srv/app/supervisor.sock stop web",
    ),
    "supervisord where packages put it": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {"SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_SERVER_URL": "unix:///var/run/supervisor.sock"},
        "supervisorctl stop web",
    ),
    "supervisord with a server that is none": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {"SUPERVISOR_PROCESS_NAME": "web", "SUPERVISOR_SERVER_URL": "$(reboot)"},
        "supervisorctl stop web",
    ),
    "group of supervisord": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {"SUPERVISOR_PROCESS_NAME": "web_00", "SUPERVISOR_GROUP_NAME": "web"},
        "supervisorctl stop web:web_00",
    ),
    "supervisord, name hidden": (
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/opt/app",
        {},
        "supervisorctl stop NAME",
    ),
    "PM2": (
        ("PM2 v5.3.0: God Daemon (/root/.pm2)",),
        "node /srv/api.js",
        {"pm_id": "0", "name": "api"},
        "pm2 stop api",
    ),
    "runit": ("runsv web", "/opt/app", {}, 'sv stop "$(readlink /proc/10/cwd)"'),
    "s6": ("s6-supervise web", "/opt/app", {}, 's6-svc -d "$(readlink /proc/10/cwd)"'),
    "dinit": ("/usr/bin/dinit -d", "/opt/app", {}, "dinitctl stop NAME"),
    "perp": ("perpd /etc/perp", "/opt/app", {}, "perpctl d NAME"),
    "OpenRC": ("supervise-daemon web --start /opt/app", "/opt/app", {}, "rc-service web stop"),
}


@pytest.mark.parametrize(("line", "program", "told", "command"), SUPERVISORS.values(), ids=SUPERVISORS)
def test_a_program_of_a_supervisor_is_stopped_by_it(line, program, told, command):
    cgroup = "/system.slice/keeper.service"
    keeper = kin(10, line, cgroup)
    found = stop_of(kin(20, program, cgroup, parent=10), cgroup, keeper, variables=told)
    assert (found.way, found.commands) == ("supervised", (command,))
    assert bool(found.lookup) is ("NAME" in command)
    assert "systemctl stop keeper.service" in found.avoid[0]


@pytest.mark.parametrize(
    ("home", "uid", "before"),
    [
        ("/root/.pm2", 0, ""),
        ("/home/app/.pm2", 1001, "sudo -iu '#1001' "),
        ("/srv/my app", 0, "PM2_HOME='/srv/my app' "),
        ("/home/app/.pm2", 0, "PM2_HOME=/home/app/.pm2 "),
        ("/srv/.pm2", 1001, "sudo -iu '#1001' PM2_HOME=/srv/.pm2 "),
    ],
)
def test_the_daemon_of_pm2_is_reached_by_the_folder_it_keeps(home, uid, before):
    god = kin(10, (f"PM2 v5.3.0: God Daemon ({home})",), uid=uid)
    app = kin(20, "node /srv/api.js", parent=10, uid=uid)
    told = {"pm_id": "0", "name": "api"}
    assert stop_of(app, "/", god, variables=told).commands == (f"{before}pm2 stop api",)
    unseen = stop_of(app, "/system.slice/pm2-root.service", variables={**told, "PM2_HOME": home})
    assert unseen.commands == (f"{before}pm2 stop api",)


def test_circus_is_asked_where_its_file_says_and_not_ended_for_a_socket_of_its_programs():
    circusd = "python3 /usr/bin/circusd /etc/circus.ini"
    web = stop_of(kin(20, "/opt/app", parent=10), "/", kin(10, circusd))
    assert web.commands == ("circusctl stop NAME",)
    assert "where /etc/circus.ini has another endpoint it wants --endpoint" in web.note
    itself = stop_of(kin(10, circusd))
    assert (itself.way, itself.commands) == ("not-to-be-stopped", ())
    assert itself.avoid == ("kill 10: it ends every program that it keeps.",)


def test_the_god_daemon_of_pm2_holds_the_port_for_a_program_in_cluster_mode():
    god = kin(20, ("PM2 v5.3.0: God Daemon (/home/app/.pm2)",), name="PM2 v5.3.0: God", uid=1001)
    found = stop_of(god, "/system.slice/pm2-app.service")
    assert found.commands == ("sudo -iu '#1001' pm2 stop NAME",)
    assert found.lookup == ("sudo -iu '#1001' pm2 list | grep cluster",)
    assert "every program" in found.avoid[-1]


@pytest.mark.parametrize("unit", ["supervisor.service", "supervisord.service", "pm2-root.service"])
def test_a_supervisor_out_of_sight_is_known_by_its_unit(unit):
    cgroup = f"/system.slice/{unit}"
    found = stop_of(kin(20, "/opt/app", cgroup), cgroup)
    assert found.commands == (("pm2 stop NAME",) if "pm2" in unit else ("supervisorctl stop NAME",))


def test_supervisord_is_not_stopped_for_its_own_interface():
    cgroup = "/system.slice/supervisor.service"
    found = stop_of(kin(20, "/usr/bin/python3 /usr/bin/supervisord -n", cgroup, name="supervisord"), cgroup)
    assert (found.way, found.commands) == ("not-to-be-stopped", ())
    assert "inet_http_server" in found.note


@pytest.mark.parametrize("unit", ["cron.service", "ssh.service", "docker.service", "gitlab-runner.service"])
def test_what_is_left_alone_in_the_unit_of_a_keeper_is_a_process(unit):
    """The keeper has ended, or is out of sight: its unit holds nothing but this program."""
    cgroup = f"/system.slice/{unit}"
    found = stop_of(kin(20, "/opt/server", cgroup), cgroup)
    assert found.commands == ("kill 20",)
    assert unit in found.avoid[0]


def test_a_server_of_a_container_is_the_containers_whatever_it_is():
    found = stop_of(kin(20, "/usr/sbin/sshd -D"), f"/docker/{ID}")
    assert found.commands == ("docker stop 0123456789ab",)
    proxy = stop_of(kin(20, PROXY), f"/docker/{ID}")
    assert proxy.commands == ("docker exec 0123456789ab docker stop CONTAINER",)


def test_what_an_heir_holds_is_not_freed_by_the_unit_of_who_is_gone():
    cgroup = "/system.slice/web.service"
    heir = kin(20, "sleep 60", cgroup)
    standing = Standing(heir, 1.0, place_of(cgroup), innermost_pid=20, unit_members=(heir,))
    found = who_may_be_stopped((Holder(20, "sleep", 3, 0),), {20: standing}, inherited=True)
    assert found.commands == ("kill 20",)


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web.service of user 1000"),
        (f"/system.slice/docker-{ID}.scope", "Docker container 0123456789ab"),
        (
            f"/system.slice/docker-{ID}.scope/system.slice/nginx.service",
            "nginx.service in Docker container 0123456789ab",
        ),
        (
            f"/kubepods/pod2f4a3b1c-9d8e-4c11-b9a0-0123456789ab/{ID}",
            "container 0123456789ab of pod 2f4a3b1c-9d8e-4c11-b9a0-0123456789ab",
        ),
        (r"/machine.slice/machine-my\x2dweb.scope/payload", "nspawn container my-web"),
        ("/", None),
    ],
)
def test_where_a_process_runs_is_named_as_people_do(cgroup, name):
    assert name_place(place_of(cgroup)) == name


def test_systemd_of_the_host_a_user_and_a_container_are_three():
    def ask(line, cgroup, **changes):
        holder = kin(changes.pop("pid", 77), line, name="systemd", uid=changes.pop("uid", 0))
        return stop_of(holder, cgroup, **changes)

    host = ask("/sbin/init", "/init.scope", pid=1)
    assert (host.way, host.commands) == ("socket-unit", ("systemctl stop NAME.socket",))
    user = ask(
        "/lib/systemd/systemd --user", "/user.slice/user-1000.slice/user@1000.service/init.scope", uid=1000
    )
    assert (user.way, user.commands) == ("user-socket-unit", ("systemctl --user -M 1000@ stop NAME.socket",))
    assert user.lookup == ("systemctl --user -M 1000@ list-sockets",)
    inside = {"own_pids": False, "innermost_pid": 1}
    box = ask("/sbin/init", f"/system.slice/docker-{ID}.scope/init.scope", **inside)
    assert box.commands == ("docker exec 0123456789ab systemctl stop NAME.socket",)
    assert "whole container" in box.avoid[0]
    unknown = ask("/sbin/init", "/", **inside)
    assert unknown.commands == ("nsenter -t 77 -a systemctl stop NAME.socket",)
    assert unknown.lookup == ("nsenter -t 77 -a systemctl list-sockets",)


def test_a_socket_unit_is_named_where_its_group_tells():
    holder = kin(1, "/sbin/init", name="systemd")
    found = stop_of(holder, "/init.scope", asker=Asker(0, 8080, socket_unit="cups.socket"))
    assert (found.commands, found.lookup) == (("systemctl stop cups.socket",), ())


def test_a_service_that_has_the_socket_of_a_unit_is_stopped_with_that():
    """The service keeps it when only the socket unit stops; systemd begins the service again otherwise."""
    systemd = Standing(
        Kin(1, "systemd", 0, 0.5, ("/sbin/init",)), 0.0, place_of("/init.scope"), innermost_pid=1
    )
    app = kin(20, "/opt/app", "/system.slice/app.service")
    served = Standing(app, 0.0, place_of("/system.slice/app.service"), innermost_pid=20)
    holders = (Holder(1, "systemd", 30, 0), Holder(20, "app", 3, 0))
    found = who_may_be_stopped(holders, {1: systemd, 20: served})
    assert found is not None
    assert found.commands == ("systemctl stop NAME.socket app.service",)
    assert "both have to be stopped" in (found.note or "")


def test_a_service_of_a_container_without_a_name_is_not_the_hosts():
    cgroup = "/payload/system.slice/web.service"
    inner = kin(50, "/usr/lib/systemd/systemd", "/payload/init.scope", parent=40)
    web = kin(61, "/opt/web", cgroup, parent=50)
    found = stop_of(web, cgroup, inner, own_pids=False, innermost_pid=20)
    assert found.commands == ("nsenter -t 50 -a systemctl stop web.service",)
    assert found.avoid[0].startswith("systemctl stop web.service: that is the host's")
    second = kin(62, "/opt/db", cgroup, parent=50)
    members = (web, second)
    beside = stop_of(second, cgroup, inner, own_pids=False, innermost_pid=21, unit_members=members)
    assert (beside.commands, beside.avoid) == (("kill 62",), ())
    nested = "/system.slice/box.service" + cgroup
    deep = stop_of(web._replace(unit_path=None), nested, inner, own_pids=False, innermost_pid=20)
    assert deep.commands == ("nsenter -t 50 -a systemctl stop web.service",)


def test_the_rule_for_a_published_port_names_the_container_that_dockerd_holds_it_for():
    rule = Redirect(Goal("172.17.0.2", 80), "nft", None, names_port=True, container=Container("docker", ID))
    asker = Asker(0, 8080, leads_to=rule)
    found = stop_of(kin(20, "/usr/bin/dockerd"), "/system.slice/docker.service", asker=asker)
    assert (found.commands, found.container_port) == (("docker stop 0123456789ab",), 80)
    proxy = stop_of(kin(20, "docker-proxy", name="docker-proxy"), "/system.slice/docker.service", asker=asker)
    assert (proxy.commands, proxy.container_port) == (("docker stop 0123456789ab",), 80)


def test_a_socket_unit_is_named_although_its_service_has_the_socket_too():
    systemd = Standing(INIT, 1.0, place_of("/init.scope"), innermost_pid=1)
    holders = (Holder(1, "systemd", 40, 0), Holder(811, "cupsd", 3, 0))
    found = who_may_be_stopped(holders, {1: systemd, 811: Missing("gone")})
    assert found.commands == ("systemctl stop NAME.socket",)
    assert found.processes == 2


CONTAINERS = {
    f"/docker/{ID}": "docker stop 0123456789ab",
    f"/system.slice/docker-{ID}.scope": "docker stop 0123456789ab",
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope": (
        "DOCKER_HOST=unix:///run/user/1000/docker.sock docker stop 0123456789ab"
    ),
    f"/machine.slice/libpod-{ID}.scope/container": "podman stop 0123456789ab",
    f"/kubepods/burstable/pod2f4a3b1c-9d8e-4c11-b9a0-0123456789ab/{ID}": "crictl stop 0123456789ab",
    r"/machine.slice/machine-my\x2dweb.scope/payload": "machinectl poweroff my-web",
    "/lxc.payload.web1/system.slice/nginx.service": "lxc-stop -n web1",
    r"/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator": "virsh shutdown web",
    "/nomad.slice/share.slice/0f1e2d3c-1111-2222-3333-444455556666.web.scope": (
        "nomad alloc stop 0f1e2d3c-1111-2222-3333-444455556666"
    ),
    f"/ecs/{'a' * 32}/{ID}": f"aws ecs stop-task --cluster CLUSTER --task {'a' * 32}",
    f"/docker/{ID}/docker/{'f' * 64}": "docker exec 0123456789ab docker stop ffffffffffff",
    "/user.slice/user-1000.slice/user@1000.service/lxc.payload.web": (
        "sudo -u '#1000' XDG_RUNTIME_DIR=/run/user/1000 lxc-stop -n web"
    ),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/docker/{'f' * 64}": (
        "sudo -u '#1000' XDG_RUNTIME_DIR=/run/user/1000 podman exec 0123456789ab docker stop ffffffffffff"
    ),
    "/slurm/uid_1000/job_123/step_0/task_0": "scancel 123.0",
    "/slurm/uid_1000/job_123/step_batch/task_0": "scancel 123",
    "/hadoop-yarn/container_e17_1410901177871_0001_01_000005": (
        "yarn container -signal container_e17_1410901177871_0001_01_000005 GRACEFUL_SHUTDOWN"
    ),
    r"/machine.slice/machine-ch\x2d2\x2dvm.scope": "virsh -c ch:///system shutdown vm",
}


@pytest.mark.parametrize(("cgroup", "command"), CONTAINERS.items())
def test_a_container_is_stopped_by_what_runs_it(cgroup, command):
    assert stop_of(kin(20, "/opt/app"), cgroup).commands == (command,)


def test_what_a_scheduler_runs_comes_back_and_a_service_manager_around_it_is_left_alone():
    yarn = stop_of(kin(20, "/usr/bin/java"), "/hadoop-yarn/container_e17_1410901177871_0001_01_000005")
    assert "yarn application -kill application_1410901177871_0001" in yarn.note
    handle = "d3ff5e6f-6b2b-4f2e-7dc3-b96f"
    garden = stop_of(kin(20, "/app/server"), f"/system.slice/garden.service/garden/{handle}")
    assert garden.commands == ()
    assert garden.role == f"runs in Garden container {handle}"
    assert "garden.service" not in tell_stop(garden)


def test_a_pod_comes_back_unless_its_maker_is_told():
    found = stop_of(kin(20, "/opt/app"), f"/kubepods/pod2f4a3b1c-9d8e-4c11-b9a0-0123456789ab/{ID}")
    assert "pod 2f4a3b1c-9d8e-4c11-b9a0-0123456789ab" in found.note
    assert found.restart is None


FOLDERS = {
    "runit, its usual folder": ("runsv web", "runsvdir -P /etc/service log: ...", "sv stop web"),
    "runit of GitLab": (
        "runsv web",
        "runsvdir -P /opt/gitlab/service log: ...",
        "sv stop /opt/gitlab/service/web",
    ),
    "runit of busybox": ("busybox runsv web", "busybox runsvdir /etc/service", "sv stop web"),
    "s6 with its own folder": ("s6-supervise web", "s6-svscan -d4 -- /var/svc", "s6-svc -d /var/svc/web"),
    "s6 without": ("s6-supervise web", "/bin/sh", 's6-svc -d "$(readlink /proc/40/cwd)"'),
    "s6 by a place of its own": ("s6-supervise web", "s6-svscan d", 's6-svc -d "$(readlink /proc/40/cwd)"'),
    "daemontools where it was begun": ("supervise web", "svscan", 'svc -d "$(readlink /proc/40/cwd)"'),
    "runit of nobody": ("runsv /srv/web", "/bin/sh", "sv stop /srv/web"),
    "daemontools": ("supervise web", "svscan /etc/sv", "svc -d /etc/sv/web"),
    "emperor": (
        "/usr/bin/uwsgi --emperor /etc/uwsgi/vassals",
        "/bin/sh",
        "mv /etc/uwsgi/vassals/site.ini /etc/uwsgi/vassals/site.ini.off",
    ),
}


@pytest.mark.parametrize(("keeper", "above", "command"), FOLDERS.values(), ids=FOLDERS)
def test_a_service_is_known_by_the_folder_that_its_supervisor_looks_through(keeper, above, command):
    cgroup = "/system.slice/keeper.service"
    top = kin(30, above, cgroup)
    middle = kin(40, keeper, cgroup, parent=30)
    program = "/usr/bin/uwsgi --ini site.ini" if "uwsgi" in keeper else "/opt/app"
    found = stop_of(kin(50, program, cgroup, parent=40), cgroup, middle, top)
    assert found.commands == (command,)
    assert "keeper.service" in found.avoid[0]


def test_a_container_that_a_unit_runs_is_stopped_by_the_unit():
    quadlet = f"/system.slice/web.service/libpod-payload-{ID}"
    found = stop_of(kin(20, "/usr/bin/app", quadlet), quadlet)
    assert found.commands == ("systemctl stop web.service",)
    assert found.avoid == ("podman stop 0123456789ab: web.service may start it again.",)
    users = f"/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}"
    assert stop_of(kin(20, "/usr/bin/app", users), users).commands == (
        "systemctl --user -M 1000@ stop web.service",
    )
    service = f"/system.slice/podman.service/libpod-payload-{ID}"
    assert stop_of(kin(20, "/usr/bin/app", service), service).commands == ("podman stop 0123456789ab",)


def test_a_program_that_monit_began_is_stopped_by_monit():
    cgroup = "/system.slice/monit.service"
    monit, app = kin(10, "/usr/bin/monit -I", cgroup), kin(20, "/opt/app", cgroup)
    assert stop_of(app, cgroup, unit_members=(monit, app)).commands == ("monit stop NAME",)
    assert stop_of(monit, cgroup, unit_members=(monit,)).commands == ("systemctl stop monit.service",)


def test_a_task_that_nomad_runs_without_a_container_is_stopped_by_nomad():
    cgroup = "/system.slice/nomad.service"
    keeper = kin(10, "/usr/bin/nomad executor x", cgroup)
    found = stop_of(
        kin(20, "/opt/app", cgroup, parent=10), cgroup, keeper, variables={"NOMAD_ALLOC_ID": "0f1e2d3c"}
    )
    assert found.commands == ("nomad alloc stop 0f1e2d3c",)


LEFT_ALONE = {
    "epmd": ("/usr/lib/erlang/erts-13/bin/epmd -daemon", "/system.slice/rabbitmq-server.service"),
    "apiserver": (
        "kube-apiserver --secure-port=6443",
        f"/kubepods.slice/kubepods-pod{'0123456789abcdef' * 2}.slice/cri-containerd-{ID}.scope",
    ),
}


@pytest.mark.parametrize(("line", "cgroup"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_serves_many_others_is_not_stopped_for_a_port(line, cgroup):
    found = stop_of(kin(20, line, cgroup), cgroup)
    assert (found.way, found.commands) == ("not-to-be-stopped", ())
    assert "ends 3 connections" not in tell_stop(found, 3)


def test_a_tunnel_is_known_by_any_spelling_of_its_flags():
    for flags in ("-L 8080:db:80", "-fNL 8080:db:80", "-NTfR8080:localhost:80"):
        assert stop_of(kin(20, f"ssh {flags} bastion"), "/").way == "forward"
    assert stop_of(kin(20, "ssh -fN bastion"), "/").way == "process", "it holds a connection"
    assert stop_of(kin(20, "ssh -fN bastion"), "/", listens_on=(8080,)).way == "forward", "its file says so"


def test_the_end_of_a_shared_connection_of_ssh_ends_the_sessions_in_it():
    alone = stop_of(kin(20, "ssh -L 8080:db:80 bastion")).note
    assert alone == "that ends the whole ssh connection with all its forwards"
    titles = ("ssh -fNM -L 8080:db:80 b", "ssh -o ControlMaster=auto -L 1:db:80 b", ("ssh: /run/mux [mux]",))
    for title in titles:
        assert "and all sessions that share it" in stop_of(kin(20, title)).note
    assert stop_of(kin(20, "ssh -o ControlMaster=no -L 8080:db:80 bastion")).note == alone


def test_a_tunnel_that_a_loop_begins_again_ends_after_the_loop():
    tunnel = kin(20, "ssh -NL 8080:db:80 bastion", parent=10)
    found = stop_of(tunnel, "/", SHELL, loop=SHELL)
    assert found.commands == ("kill 10 20",)
    assert found.note.endswith("pid 10 loop.sh runs it in a loop and starts it again, and has to end first")


def test_an_inetd_is_told_with_the_file_that_it_was_given():
    stop = stop_of(kin(20, "/usr/sbin/inetd -i /srv/inetd.conf"))
    assert stop.commands == ("kill -HUP 20",)
    assert stop.note == "take that service out of /srv/inetd.conf first"
    assert "one of the services of /etc/inetd.conf" in stop_of(kin(20, "/usr/sbin/inetd -i")).role
    assert "/srv/x.conf" in stop_of(kin(20, "xinetd -stayalive -f /srv/x.conf")).role


def test_a_machine_of_virtualbox_is_shut_down():
    found = stop_of(kin(20, "/usr/lib/virtualbox/VBoxHeadless --comment web --startvm 1"), "/")
    assert found.commands == ("VBoxManage controlvm web acpipowerbutton",)
    assert "power cut" in found.avoid[0]


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ((8080, 443), "It listens on port 443 too."),
        ((80, 443, 8080), "It listens on ports 80 and 443 too."),
        ((1, 2, 3, 4, 5, 8080), "It listens on ports 1, 2, 3, 4 and 5 too."),
        ((1, 2, 3, 4, 5, 6, 7, 8080), "It listens on ports 1, 2, 3, 4 and 3 more too."),
    ],
)
def test_further_ports_of_the_holder_are_told(ports, told):
    found = stop_of(kin(811, NGINX, name="nginx"), "/system.slice/nginx.service", listens_on=ports)
    assert told in tell_stop(found)


def test_a_unit_inside_a_container_is_the_containers():
    cgroup = f"/system.slice/docker-{ID}.scope/system.slice/nginx.service"
    found = stop_of(kin(20, NGINX, cgroup, name="nginx"), cgroup)
    assert found.commands == ("docker stop 0123456789ab",)
    assert (
        found.note == "to end its nginx.service alone: docker exec 0123456789ab systemctl stop nginx.service"
    )
    here = stop_of(kin(20, NGINX, cgroup, name="nginx"), cgroup, same_container=True)
    assert here.commands == ("systemctl stop nginx.service",)


def test_the_unit_around_a_container_is_not_named_inside_it():
    cgroup = f"/system.slice/containerd.service/kubepods-pod{'a' * 32}.slice:cri-containerd:{ID}"
    assert stop_of(kin(20, "/opt/app", cgroup), cgroup, same_container=True).commands == ("kill 20",)


def test_monitors_of_lxc_tell_lxd_and_incus_apart():
    monitor = kin(10, "[lxc monitor] /var/snap/lxd/common/lxd/containers web1")
    assert stop_of(kin(20, "/opt/app", parent=10), "/lxc.payload.web1", monitor).commands == (
        "lxc stop web1",
    )


def test_an_instance_of_a_project_is_named_with_its_project():
    monitor = kin(10, "[lxc monitor] /var/lib/incus/containers user-1000_web1")
    unit = "/lxc.payload.user-1000_web1/system.slice/nginx.service"
    found = stop_of(kin(20, NGINX, unit, parent=10), unit, monitor)
    assert found.commands == ("incus stop --project user-1000 web1",)
    inside = "incus exec --project user-1000 web1 -- systemctl stop nginx.service"
    assert found.note == f"to end its nginx.service alone: {inside}"
    plain = stop_of(kin(20, "/opt/app"), "/lxc.payload.web_1")
    assert plain.commands == ("lxc-stop -n web_1",)


def test_a_machine_of_proxmox_is_shut_down_by_its_number():
    found = stop_of(kin(20, "/usr/bin/kvm -id 100 -name web"), "/qemu.slice/100.scope")
    assert (found.commands, found.role) == (("qm shutdown 100",), "runs virtual machine 100")


def test_a_step_of_a_build_is_ended_alone():
    place = "/system.slice/docker.service/docker/buildkit/k5xa2ghz2mx5zl3sgj9ha4pz9"
    found = stop_of(kin(20, "/opt/app", place), place)
    assert (found.commands, found.note) == (("kill 20",), "the build fails with it")
    assert found.role == "is part of BuildKit's build step k5xa2ghz2mx5zl3sgj9ha4pz9"


@pytest.mark.parametrize("unit", ["snap.microk8s.daemon-kubelite", "k0sworker"])
def test_a_node_of_a_cluster_is_not_stopped_for_a_port(unit):
    found = stop_of(kin(20, "/opt/node", f"/system.slice/{unit}.service"), f"/system.slice/{unit}.service")
    assert (found.way, found.commands) == ("not-to-be-stopped", ())


def test_process_1_of_this_container_is_not_killed():
    found = stop_of(kin(1, "runit", parent=0))
    assert (found.way, found.commands) == ("first-process", ())


def test_a_holder_of_whom_nothing_is_known_is_a_process():
    found = who_may_be_stopped((Holder(20, "app", 3, 0),), {})
    assert (found.way, found.commands, found.since) == ("process", ("kill 20",), None)
    assert who_may_be_stopped((), {}) is None


def test_where_nobody_can_tell_what_keeps_a_process_it_is_said_before_anything_is_killed():
    found = who_may_be_stopped((Holder(20, "app", 3, 0),), {20: Missing("not in the recording")})
    assert found.commands == ("kill 20",)
    assert "is not told here: see `systemctl status 20` first" in found.note


def test_the_advice_says_since_when_it_runs_as_what_and_what_ends():
    parent = kin(10, "/usr/bin/keeper")
    found = stop_of(kin(20, "/opt/app --port 8080", parent=10), "/", parent)
    assert tell_stop(found, 137) == (
        "end pid 20 app (`kill 20`); it runs since 2023-11-14 22:13 UTC, as /opt/app --port 8080. "
        "That ends 137 connections. Pid 10 keeper started it, and may start it again: "
        "then `kill 10 20`."
    )


def test_a_postmaster_is_stopped_by_the_signal_that_does_not_wait_for_its_sessions():
    postmaster = kin(20, "/usr/lib/postgresql/15/bin/postgres -D /srv/db")
    found = stop_of(postmaster)
    assert (found.commands, found.with_children) == (("kill -INT 20",), True)
    session = kin(21, ("postgres: app app 127.0.0.1(57354) idle",), parent=20)
    found = stop_of(session, "/", postmaster)
    assert (found.commands, found.with_children) == (("kill 21",), False)


@pytest.mark.parametrize(
    ("master", "worker"),
    [
        ("haproxy -W -D -f h.cfg", "haproxy -sf 17 -x sockpair@3 -W -D -f h.cfg"),
        ("/usr/sbin/varnishd -a :6081", "/usr/sbin/varnishd -a :6081"),
        ("/usr/sbin/squid -sYC", ("(squid-1)", "--kid", "squid-1", "-sYC")),
    ],
)
def test_a_worker_that_listens_for_a_master_without_the_socket_goes_with_its_master(master, worker):
    above = kin(11, master)
    listening = stop_of(kin(23, worker, parent=11), "/", above, listens_on=(8080,))
    assert listening.commands == ("kill 11",)
    assert "pid 11" in (listening.note or "")
    old = stop_of(kin(19, worker, parent=11), "/", above)
    assert old.commands == ("kill 19",), "an old worker has its last connections and no listener"
    assert stop_of(kin(19, worker, parent=11), "/", above, asker=Asker(0, listens=True)).commands == (
        "kill 11",
    )


def test_workers_end_with_their_master_and_others_do_not():
    master = kin(20, NGINX, name="nginx")
    standing = Standing(master, 0.0, Missing("hidden"), innermost_pid=20, below=(21, 23))
    holders = tuple(Holder(pid, "nginx", 3, 0) for pid in (20, 21, 23))
    found = who_may_be_stopped(holders, {20: standing})
    assert found is not None
    told = "Its 2 children share the socket (pids 21, 23) and as a rule end with it; "
    assert tell_stop(found).endswith(f"{told}what is left has to end too: `kill 21 23`.")
    alone = who_may_be_stopped(holders, {20: standing._replace(dies_of_term=True)})
    assert alone is not None
    assert alone.commands == ("kill 20 21 23",), "without a handler for TERM it ends nobody"
    apart = who_may_be_stopped(holders, {20: standing._replace(below=(21,))})
    assert apart is not None
    assert tell_stop(apart).endswith("2 other processes share the socket (pids 21, 23) and have to end too.")


def test_workers_that_may_outlive_their_master_are_ended_with_it():
    """PHP's own server leaves them; what it began of another name may be a job of its own."""
    master = kin(20, "php -S 127.0.0.1:8080")
    standing = Standing(master, 0.0, Missing("hidden"), innermost_pid=20, below=(21, 23, 29))
    holders = tuple(Holder(pid, name, 3, 0) for pid, name in ((20, "php"), (21, "php"), (23, "php")))
    found = who_may_be_stopped(holders, {20: standing})
    assert found is not None
    assert found.commands == ("kill 20 21 23",)
    assert tell_stop(found).endswith("Its 2 children share the socket and may outlive it.")
    job = who_may_be_stopped((*holders, Holder(29, "ffmpeg", 3, 0)), {20: standing})
    assert job is not None
    assert job.commands == ("kill 20 21 23",)
    assert tell_stop(job).endswith("what is left has to end too.")


def test_workers_of_a_master_that_is_gone_end_together():
    first = kin(21, "app", parent=1)
    standing = Standing(first, 0.0, Missing("hidden"), innermost_pid=21)
    holders = tuple(Holder(pid, "app", 3, 0) for pid in (21, 23, 29))
    found = who_may_be_stopped(holders, {21: standing}, parents={21: 1, 23: 1, 29: 20})
    assert found is not None
    assert found.commands == ("kill 21 23",)
    assert tell_stop(found).endswith("2 other processes share the socket (pids 23, 29) and have to end too.")
    every = who_may_be_stopped(holders, {21: standing}, parents=dict.fromkeys((21, 23, 29), 1))
    assert every is not None
    assert every.commands == ("kill 21 23 29",)
    assert tell_stop(every).endswith("2 other processes share the socket; the command ends all of them.")


def test_many_workers_are_named_unless_their_master_ends_them():
    pids = tuple(range(21, 33))
    master, holders = kin(20, "app"), tuple(Holder(pid, "app", 3, 0) for pid in (20, *range(21, 33)))
    standing = Standing(master, 0.0, Missing("hidden"), innermost_pid=20, below=pids)
    found = who_may_be_stopped(holders, {20: standing})
    assert found is not None
    assert found.commands == (f"kill 20 {' '.join(map(str, pids))}",)


def test_another_program_that_got_the_socket_is_told_to_keep_it():
    standing = Standing(
        kin(20, "app"), 0.0, Missing("hidden"), innermost_pid=20, below=(21, 23), dies_of_term=True
    )
    holders = (Holder(20, "app", 3, 0), Holder(21, "app", 3, 0), Holder(23, "sleep", 3, 0))
    found = who_may_be_stopped(holders, {20: standing})
    assert found is not None
    assert found.commands == ("kill 20 21",)
    assert tell_stop(found).endswith(
        "Pid 23 sleep got the socket from it and would keep it: to free the port, `kill 23` as well."
    )
    handles = who_may_be_stopped(holders, {20: standing._replace(dies_of_term=False)})
    assert handles is not None
    assert tell_stop(handles).endswith("as a rule end with it; what is left has to end too.")


def test_a_new_master_below_the_old_one_has_to_end_too():
    master = kin(20, NGINX, name="nginx")
    below, parents = (21, 23, 29, 31, 37), (20, 20, 20, 29, 21)
    standing = Standing(master, 0.0, Missing("hidden"), below=below, below_parents=parents)
    holders = tuple(Holder(pid, "nginx", 3, 0) for pid in (20, 21, 23, 29, 31))
    found = who_may_be_stopped(holders, {20: standing})
    assert found is not None
    assert found.commands == ("kill 20 29",), "21 began a process that does not hold the socket"
    assert "pid 29 below it began others" in found.note


SHELL = kin(10, "/bin/bash ./loop.sh", name="loop.sh")


def test_a_loop_of_a_shell_ends_before_what_it_starts_again():
    found = stop_of(kin(20, "/opt/app", parent=10), "/", SHELL, loop=SHELL)
    assert found.commands == ("kill 10 20",)
    assert found.note == "pid 10 loop.sh runs it in a loop and starts it again, and has to end first"
    signalled = stop_of(kin(20, "uwsgi --master", parent=10), "/", SHELL, loop=SHELL)
    assert signalled.commands == ("kill 10 && kill -INT 20",)
    first = SHELL._replace(pid=1)
    assert stop_of(kin(20, "/opt/app", parent=1), "/", first, loop=first).commands == ("kill 20",)


@pytest.mark.parametrize(
    ("parent", "command", "told"),
    [
        ("python3 /usr/bin/watchmedo auto-restart -- app", "kill 10 20", "starts it again"),
        (
            "node /usr/lib/node_modules/forever/bin/monitor srv.js",
            "kill 10 20",
            "pid 10 monitor starts it again",
        ),
        ("node --watch srv.js", "kill 10 20", "starts it again"),
        ("node /usr/bin/tsx watch srv.ts", "kill 10 20", "starts it again"),
        ("node /usr/bin/tsx --watch srv.ts", "kill 10 20", "starts it again"),
        ("/root/go/bin/air -c .air.toml", "kill 10 20", "pid 10 air starts it again"),
        ("node srv.js", "kill 20", "may start it again: then `kill 10 20`"),
        ("node srv.js watch", "kill 20", "may start it again: then `kill 10 20`"),
        ("/opt/launcher", "kill 20", "may start it again: then `kill 10 20`"),
        ("sh -c /opt/app", "kill 20", "pid 9 launcher started it, and may start it again: then `kill 9 20`"),
        ("python3 /usr/bin/honcho start", "kill 20", "began it with others, and ends all of them"),
        (("foreman: master",), "kill 20", "began it with others, and ends all of them"),
        ("tmux new-session", "kill 20", None),
        ("SCREEN -dmS web", "kill 20", None),
        ("/usr/bin/bwrap --dev-bind / / app", "kill 20", None),
        ("/lib/systemd/systemd --user", "kill 20", None),
        ("/bin/bash", "kill 20", None),
    ],
)
def test_who_starts_it_again_is_told_and_who_never_does_is_not(parent, command, told):
    found = stop_of(kin(20, "/opt/app", parent=10), "/", kin(10, parent, parent=9), *above_of(parent))
    assert found.commands == (command,)
    assert told in found.note if told else found.note is None


def test_what_else_a_parent_keeps_is_told_before_it_is_ended():
    app, keeper = kin(20, "/opt/app", parent=10), kin(10, "/opt/keeper")
    many = stop_of(app, "/", keeper, siblings=7).note
    assert many.endswith("then `kill 10 20`, which may end 7 others that it began")
    assert stop_of(app, "/", keeper, siblings=1).note.endswith(", which may end another that it began")
    behind = stop_of(app, "/", kin(10, "sh -c /opt/app", parent=9), kin(9, "/opt/keeper"), siblings=7)
    assert behind.note.endswith("then `kill 9 20`"), "the shell's children were counted"


def test_a_supervisor_is_asked_about_the_pid_that_it_began():
    shell, app = kin(15, "sh /srv/run", parent=10), kin(20, "/opt/app", parent=15)
    found = stop_of(app, "/", shell, kin(10, "dinit"))
    assert found.lookup == ("dinitctl list | grep 'pid: 15)'",)
    assert stop_of(app, "/", shell, kin(10, "perpd")).lookup == ("perpls | grep 15",)


def test_what_starts_it_again_is_found_behind_a_shell():
    shell = kin(10, "sh -c app; true", parent=9)
    found = stop_of(kin(20, "/opt/app", parent=10), "/", shell, kin(9, "watchmedo auto-restart -- sh -c app"))
    assert found.commands == ("kill 9 20",)
    assert "pid 9 watchmedo starts it again" in found.note
    typed = stop_of(kin(20, "/opt/app", parent=10), "/", kin(10, "-bash", parent=9), kin(9, "entr -s bash"))
    assert typed.commands == ("kill 20",), "an interactive shell goes on when its program has ended"


def test_a_loop_that_somebody_typed_is_a_fork_of_the_shell():
    typed, shell = kin(12, "-bash", parent=10), kin(10, "-bash")
    found = stop_of(kin(20, "/opt/app", parent=12), "/", typed, shell)
    assert found.commands == ("kill 20",)
    assert found.note == "where it comes back, a loop of pid 12 -bash began it: `kill 12 20`"
    assert stop_of(kin(20, "/opt/app", parent=10), "/", shell, kin(9, "sshd: app")).note is None


def above_of(parent: str | tuple[str, ...]) -> tuple[Kin, ...]:
    """What gave a shell its line."""
    return (kin(9, "/opt/launcher"),) if parent == "sh -c /opt/app" else ()


def test_the_command_ends_the_process_as_it_stands():
    app = kin(20, "/opt/app")
    assert stop_of(app, halted="stopped").commands == ("kill 20 && kill -CONT 20",)
    deaf = stop_of(app, ignores_term=True)
    assert (deaf.commands, deaf.note) == (("kill -KILL 20",), "it ignores TERM: only KILL ends it")
    first = stop_of(app, ignores_term=True, own_pids=False, innermost_pid=1)
    assert "with it all in that namespace" in first.note
    traced = stop_of(app, halted="traced", tracer=kin(30, "gdb -p 20"))
    assert traced.commands == ("kill 30 && kill 20",)
    assert "Pid 30 gdb has stopped it" in tell_stop(traced)


def test_a_shell_between_a_supervisor_and_its_program_may_leave_it_behind():
    keeper, shell = kin(10, "runsv web"), kin(11, "/bin/sh ./run", name="run", parent=10)
    found = stop_of(kin(20, "/opt/app", parent=11), "/", shell, keeper)
    assert found.commands == ('sv stop "$(readlink /proc/10/cwd)"; kill 20',)
    assert found.note == "pid 11 run stands between them, and may end alone: exec in its script avoids it"
    assert stop_of(kin(20, "/opt/app", parent=10), "/", keeper).note is None


def test_whoever_asks_is_warned_of_the_end_of_his_own_session():
    found = stop_of(kin(20, "/usr/bin/ttyd bash"), ours=True)
    assert "Your own session runs below it, and ends with it." in tell_stop(found)


@pytest.mark.parametrize(
    ("line", "cgroup", "lost"),
    [
        (
            "/usr/sbin/openvpn --config a.conf",
            "/system.slice/openvpn-server@a.service",
            "comes through its tunnel",
        ),
        ("/usr/sbin/tailscaled", "/", "comes through its tunnel"),
        ("/usr/sbin/sslh --foreground -F /etc/sslh.cfg", "/", "comes through its tunnel"),
        ("mosh-server new -s", "/", "their sessions end with it"),
        ("socat TCP-LISTEN:2222,fork TCP:10.0.0.5:22", "/", "comes through its tunnel"),
        ("socat TCP-LISTEN:2222,fork TCP:10.0.0.5:8022", "/", None),
        ("/opt/wrapped", "/system.slice/cockpit.service", "their sessions end with it"),
        (
            "/usr/bin/amazon-ssm-agent",
            "/system.slice/amazon-ssm-agent.service",
            "manages this host through it",
        ),
        ("/sbin/dhclient -v eth0", "/system.slice/networking.service", "when the lease ends"),
        ("/opt/app", "/system.slice/app.service", None),
    ],
)
def test_what_its_end_takes_from_an_admin_is_told(line, cgroup, lost):
    found = stop_of(kin(20, line, cgroup), cgroup)
    assert found.commands
    assert lost in found.warning if lost else found.warning is None


def test_a_service_of_openrc_is_stopped_by_its_name():
    found = stop_of(kin(20, NGINX, name="nginx"), "/openrc.nginx")
    assert (found.way, found.commands) == ("supervised", ("rc-service nginx stop",))
    assert (found.restart, found.role) == (
        "rc-service nginx restart",
        "belongs to the service nginx of OpenRC",
    )
