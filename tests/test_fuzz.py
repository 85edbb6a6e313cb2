"""Answers to frames of any dtype, layout and order; more in ``benchmarks.fuzz``."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import FAULTS, cases, check, check_fault

slowly = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.slow
@slowly
@given(case=cases(), data=st.data())
def test_answers_agree_with_plain_python(case, data):
    check(case, data)


@settings(slowly, max_examples=40)
@given(case=cases(), fault=st.sampled_from(list(FAULTS)))
def test_faults_are_refused_by_name(case, fault):
    check_fault(case, fault)
