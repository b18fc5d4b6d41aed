from pinpoint.cli.parser import Parser


def test_a_message_about_a_checkpoints_configuration_does_not_show_all_of_it() -> None:
    parser = Parser()
    parser.given = ["--config=model:\n  network: subprocess.Popen\n", "--config=mine.yaml"]
    said = parser._explain('Parser key "config": Parser key "model.network": not a subclass')
    assert said.startswith("the checkpoint's configuration, mine.yaml: ")
    assert "Popen" not in said
