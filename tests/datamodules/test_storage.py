import os
import stat

import pytest

from datamodules.storage import STRANGERS, own_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are numbers on POSIX alone")


def test_a_new_folder_is_for_its_user_alone_and_found_again(tmp_path):
    folder = own_folder(tmp_path, "pinpoint")
    assert folder == tmp_path / "pinpoint"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)  # as made by earlier versions
    assert own_folder(tmp_path, "pinpoint") == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_links_files_and_folders_that_others_can_write_to_are_passed_over(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "b").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    for name in "abc":
        assert own_folder(tmp_path, name) == tmp_path / f"{name}-1"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_of_another_user_is_passed_over(tmp_path, monkeypatch):
    theirs = own_folder(tmp_path, "pinpoint")
    if os.getuid() == 0:
        os.chown(theirs, 12345, 12345)
    else:  # who we are is as good as who they are
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(OSError, match=r"others have made pinpoint and 9 folders like it"):
            own_folder(tmp_path, "pinpoint")
        return
    assert own_folder(tmp_path, "pinpoint") == tmp_path / "pinpoint-1"
    for number in range(1, STRANGERS):
        (tmp_path / f"pinpoint-{number}").mkdir(exist_ok=True)
        os.chown(tmp_path / f"pinpoint-{number}", 12345, 12345)
    with pytest.raises(OSError, match=r"others have made pinpoint and 9 folders like it"):
        own_folder(tmp_path, "pinpoint")
