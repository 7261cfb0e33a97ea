"""ADD and WRITER: what the set will consist of, checked as far as it can be now."""

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.aliases import SET_ALIAS, Alias, default_name
from vssemu.tools.diskshadow.failures import Failed, call_failed, calling
from vssemu.tools.diskshadow.hostvolumes import HostVolumes, shown
from vssemu.tools.diskshadow.session import Act, PendingVolume, Session


def show(session: Session, _request: requests.ShowSet) -> None:
    """List the volumes of the set and the aliases."""
    width = max((len(volume.request.volume) for volume in session.volumes), default=0)
    for position, volume in enumerate(session.volumes, start=1):
        alias = volume.request.alias or default_name(position)
        session.console.line(
            f"Volume {volume.request.volume:<{width}} alias {alias}    GUID {volume.guid_name}"
        )
    count = len(session.volumes)
    session.console.line(f"{count} volume{'' if count == 1 else 's'} in Shadow Copy Set.")
    for each in session.aliases:
        session.console.line(f"%{each.name}% = {each.value}")
    if count := len(session.aliases):
        session.console.line(
            f"{count} Diskshadow alias{'' if count == 1 else 'es'} in the environment."
        )
    else:
        session.console.line("No Diskshadow aliases in the environment.")


def add_volume(session: Session, request: requests.AddVolume) -> None:
    """Add a volume that is on this host and that somebody can copy in the context."""
    session.check(Act.ADD_VOLUME)
    name = session.roots.volume(request.volume)
    _check_alias(session, request)
    with session.requester.backup(session.settings.mask) as vss_object:
        expression = f"vssObject->IsVolumeSupported({name})"
        with calling(expression):
            is_supported = vss_object.is_volume_supported(name, request.provider)
    if not is_supported:
        whose = f"provider {{{request.provider}}} does not support"
        if request.provider is None:
            whose = "no provider supports"
        raise call_failed(
            expression,
            f"VSS_E_VOLUME_NOT_SUPPORTED (0x8004230c): {name}: {whose} it in this"
            " context [SET CONTEXT and SET OPTION say what is asked for; an array without"
            " room refuses too]",
        )
    found = HostVolumes(session.requester.volumes()).named(name)
    guid_name = name if found is None else found.name
    if any(volume.guid_name == guid_name for volume in session.volumes):
        raise Failed(f"Volume {request.volume} is in the shadow copy set already.")
    session.volumes.append(
        PendingVolume(
            request=request,
            name=name,
            guid_name=guid_name,
            shown=name if found is None else shown(found),
        )
    )
    session.move(Act.ADD_VOLUME)


def _check_alias(session: Session, request: requests.AddVolume) -> None:
    if request.alias is None:
        return
    taken = {SET_ALIAS.lower()}
    for position, volume in enumerate(session.volumes, start=1):
        taken.add((volume.request.alias or default_name(position)).lower())
    if request.alias.lower() in taken:
        raise Failed(f"The alias {request.alias} is in use in this shadow copy set.")


def add_alias(session: Session, request: requests.AddAlias) -> None:
    """Define an alias at once."""
    session.aliases.put(Alias(name=request.name, value=request.value))


def add_rule(session: Session, request: requests.WriterRule) -> None:
    """Note a rule; CREATE applies it."""
    session.check(Act.WRITER)
    session.rules.append(request)
    session.move(Act.WRITER)
