"""Texts of ``dumpsys`` as Android 10 and later print them.

Source: AOSP ``BatteryService.java`` (dumpInternal) and ``ThermalManagerService.java`` (dumpInternal).
"""

from collections.abc import Mapping


def battery_text(battery: Mapping[str, int | bool | str]) -> str:
    """``dumpsys battery``."""

    def word(name: str, default: int | bool | str) -> str:
        value = battery.get(name, default)
        return str(value).lower() if isinstance(value, bool) else str(value)

    rows = (
        ("AC powered", word("ac_powered", False)),
        ("USB powered", word("usb_powered", True)),
        ("Wireless powered", "false"),
        ("Max charging current", word("max_charging_current", 500000)),
        ("Max charging voltage", word("max_charging_voltage", 5000000)),
        ("Charge counter", word("charge_counter", 3000000)),
        ("status", word("status", 2)),
        ("health", word("health", 2)),
        ("present", word("present", True)),
        ("level", word("level", 100)),
        ("scale", "100"),
        ("voltage", word("voltage", 4200)),
        ("temperature", word("temperature", 250)),
        ("technology", word("technology", "Li-ion")),
    )
    return "Current Battery Service state:\n" + "".join(f"  {name}: {value}\n" for name, value in rows)


def thermal_text(thermal: Mapping[str, object], override: str | None) -> str:
    """``dumpsys thermalservice``; ``override`` is the status forced by ``cmd thermalservice override-status``."""
    readings = thermal.get("temperatures")
    lines = "".join(
        f"\tTemperature{{mValue={item.get('value', 0.0)}, mType={item.get('type', 0)}, "
        f"mName={item.get('name', '')}, mStatus={item.get('status', 0)}}}\n"
        for item in (readings if isinstance(readings, list) else ())
    )
    status = override if override is not None else thermal.get("status", 0)
    return (
        f"IsStatusOverride: {str(override is not None).lower()}\n"
        "ThermalEventListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {status}\n"
        f"Cached temperatures:\n{lines}"
        "HAL Ready: true\n"
        "HAL connection:\n\tThermalHAL 2.0 connected: yes\n"
        f"Current temperatures from HAL:\n{lines}"
        "Current cooling devices from HAL:\n"
    )


PACKAGES = ("android", "com.android.launcher3", "com.android.settings", "com.android.shell")
_FOCUSED = "com.android.launcher3/com.android.launcher3.Launcher"


def power_text(*, awake: bool) -> str:
    """``dumpsys power``: whether the device is awake."""
    word = "Awake" if awake else "Asleep"
    return (
        f"POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mIsPowered=true\n  mWakefulness={word}\n"
        f"  mStayOn=false\n  mHalInteractiveModeEnabled={str(awake).lower()}\n  mScreenOffTimeoutSetting=60000\n"
        f"Display Power: state={'ON' if awake else 'OFF'}\n"
    )


def display_text(width: int, height: int, *, awake: bool) -> str:
    """``dumpsys display``: one built-in display, upright."""
    state = "ON" if awake else "OFF"
    return (
        f"DISPLAY MANAGER (dumpsys display)\n  mScreenState={state}\nDisplay Devices: size=1\n"
        f'  DisplayDeviceInfo{{"Built-in Screen": uniqueId="local:0", {width} x {height}, state {state}}}\n'
        f"    mViewport=DisplayViewport{{valid=true, displayId=0, orientation=0, "
        f"deviceWidth={width}, deviceHeight={height}}}\n"
    )


def window_text(width: int, height: int, *, awake: bool) -> str:
    """``dumpsys window``: its displays, policy and focus."""
    return (
        "WINDOW MANAGER DISPLAY CONTENTS (dumpsys window displays)\n  Display: mDisplayId=0\n"
        f"    init={width}x{height} 440dpi cur={width}x{height} app={width}x{height} "
        f"rng={width}x{width}-{height}x{height}\n"
        f"  mAwake={str(awake).lower()} mScreenOnEarly={str(awake).lower()}\n"
        f"  mCurrentFocus=Window{{1a2b3c u0 {_FOCUSED}}}\n  mFocusedApp=ActivityRecord{{4d5e6f u0 {_FOCUSED} t1}}\n"
    )


def input_text(width: int, height: int) -> str:
    """``dumpsys input``: the size of what is touched, and how it is turned."""
    return (
        "INPUT MANAGER (dumpsys input)\n  Viewport INTERNAL: displayId=0, orientation=0, "
        f"logicalFrame=[0, 0, {width}, {height}]\n  SurfaceWidth: {width}px\n  SurfaceHeight: {height}px\n"
        "  SurfaceOrientation: 0\n"
    )


def activity_text() -> str:
    """``dumpsys activity``: what stands in front."""
    return (
        "ACTIVITY MANAGER ACTIVITIES (dumpsys activity activities)\n"
        f"    mResumedActivity: ActivityRecord{{4d5e6f u0 {_FOCUSED} t1}}\n"
        f"TASK com.android.launcher3 id=1\n  ACTIVITY {_FOCUSED} 4d5e6f pid=1000\n"
    )


def package_text(props: Mapping[str, str], name: str) -> str:
    """``dumpsys package NAME``: an app of the system, as old as Android itself."""
    if name not in PACKAGES:
        return f"Unable to find package: {name}\n"
    sdk, release = props.get("ro.build.version.sdk", "29"), props.get("ro.build.version.release", "10")
    return (
        f"Packages:\n  Package [{name}] (1f2e3d):\n    userId=10050\n    codePath=/system/priv-app/{name}\n"
        f"    versionCode={sdk} minSdk={sdk} targetSdk={sdk}\n    versionName={release}\n"
        "    flags=[ SYSTEM HAS_CODE ]\n    pkgFlags=[ SYSTEM HAS_CODE ]\n    firstInstallTime=2009-01-01 00:00:00\n"
        "    lastUpdateTime=2009-01-01 00:00:00\n"
        "    signatures=PackageSignatures{5d6e7f version:3, signatures:[1a2b3c4d]}\n"
        "    requested permissions:\n      android.permission.INTERNET\n"
    )


def wlan_text() -> str:
    """``ifconfig wlan0``; the address is one for documentation (RFC 5737)."""
    return (
        "wlan0     Link encap:UNSPEC    Driver virtual\n"
        "          inet addr:192.0.2.10  Bcast:192.0.2.255  Mask:255.255.255.0 \n"
        "          UP BROADCAST RUNNING MULTICAST  MTU:1500  Metric:1\n"
    )
